-- Minutes of delay per departed flight, and how many of them were inherited.
select
    carrier,
    round(total_dep_delay_minutes::numeric / nullif(departed_count, 0), 1) as dep_delay_minutes,
    round(total_inherited_delay_minutes::numeric / nullif(departed_count, 0), 1) as inherited_minutes
from marts.mart_inherited_delay
order by dep_delay_minutes desc nulls last
