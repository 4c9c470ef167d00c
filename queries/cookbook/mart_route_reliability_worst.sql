-- The routes with at least a hundred flights on which most were late.
select origin, dest, flight_count, round(on_time_rate::numeric, 3) as on_time_rate, p95_arr_delay_minutes
from marts.mart_route_reliability
where flight_count >= 100
order by on_time_rate
limit 10
