{#
    The measures that every mart of flights shares, over rows of fct_flight under the alias `flights`.

    One definition, so that two marts never disagree; models/marts/_measures.md says the same in words.
#}
{% macro flight_measures() -%}
    count(*) as flight_count,
    count(*) filter (where flights.is_cancelled) as cancelled_count,
    count(flights.arr_delay_minutes) as arrived_count,
    count(*) filter (where flights.is_on_time) as on_time_count,
    (
        count(*) filter (where flights.is_on_time)::double precision
        / nullif(count(flights.arr_delay_minutes), 0)
    ) as on_time_rate,
    avg(flights.arr_delay_minutes)::double precision as mean_arr_delay_minutes,
    percentile_cont(0.95) within group (
        order by flights.arr_delay_minutes
    ) as p95_arr_delay_minutes
{%- endmacro %}
