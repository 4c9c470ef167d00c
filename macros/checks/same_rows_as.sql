{#
    The same number of rows as `relation`, per value of `by` when it is given (a dict: this model's column → the
    relation's column). Fails with each group that differs, also where one side lacks it.
#}
{% test same_rows_as(model, relation, by={}) %}
    with found as (
        {{ count_rows(model, by.keys()) }}
    ),

    expected as (
        {{ count_rows(relation, by.values()) }}
    )

    (select * from found except select * from expected)
    union all
    (select * from expected except select * from found)
{% endtest %}

{% macro count_rows(relation, columns) -%}
    select {{ (columns | list + ["count(*) as row_count"]) | join(", ") }}
    from {{ relation }}
    {% if columns %}group by {{ columns | join(", ") }}{% endif %}
{%- endmacro %}
