{# `condition` is true, or unknown for want of a value, in every row. Fails with the rows that break it. #}
{% test holds(model, condition) %}
    select *
    from {{ model }}
    where not ({{ condition }})
{% endtest %}
