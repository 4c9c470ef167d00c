{# The sum of `measure` equals the number of rows of `rows_of`: no row was lost or multiplied on the way. #}
{% test adds_up_to(model, measure, rows_of) %}
    select
        found.total as found_total,
        expected.total as expected_total
    from (select coalesce(sum({{ measure }}), 0) as total from {{ model }}) as found
    cross join (select count(*) as total from {{ rows_of }}) as expected
    where found.total <> expected.total
{% endtest %}
