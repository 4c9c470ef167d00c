{{ config(
    materialized='live',
    meta={'live': {
        'dataset': 'flight_event',
        'key': {'origin': 'origin', 'scheduled_hour_at': 'time_hour'},
        'window': {'column': 'scheduled_hour_at', 'hours': 24}
    }}
) }}

select
    events.origin,
    events.time_hour as scheduled_hour_at,
    count(*) filter (where events.event_type = 'scheduled') as scheduled_count,
    count(*) filter (where events.event_type = 'departed') as departed_count,
    count(*) filter (where events.event_type = 'cancelled') as cancelled_count,
    avg(events.delay_minutes)::double precision as mean_dep_delay_minutes,
    percentile_cont(0.9) within group (order by events.delay_minutes) as p90_dep_delay_minutes,
    (
        count(*) filter (where events.delay_minutes > 15)::double precision
        / nullif(count(events.delay_minutes), 0)
    ) as late_departure_rate,
    max(events.event_at) as newest_event_at
from {{ source('raw', 'flight_event') }} as events
where events.event_type <> 'arrived' and {{ in_window('events.time_hour') }}
group by events.origin, events.time_hour
