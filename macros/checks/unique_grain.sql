{# One row per `columns`: the model's stated grain. Fails with each key that has more. #}
{% test unique_grain(model, columns) %}
    select {{ columns | join(", ") }}, count(*) as row_count
    from {{ model }}
    group by {{ columns | join(", ") }}
    having count(*) > 1
{% endtest %}
