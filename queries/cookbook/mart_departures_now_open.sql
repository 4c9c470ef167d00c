-- Flights of each hour that have neither departed nor been cancelled yet: what is late, and what is ahead.
select
    scheduled_hour_at,
    origin,
    scheduled_count - departed_count - cancelled_count as open_count,
    newest_event_at
from marts.mart_departures_now
where scheduled_count > departed_count + cancelled_count
order by scheduled_hour_at, origin
