-- Where one waits longest now: the hours of the last day in which most departures were late, and by how much.
select
    origin,
    scheduled_hour_at,
    departed_count,
    round(100 * late_departure_rate::numeric, 1) as late_percent,
    p90_dep_delay_minutes
from marts.mart_departures_now
where departed_count > 0
order by late_departure_rate desc, departed_count desc, origin asc, scheduled_hour_at asc
limit 10
