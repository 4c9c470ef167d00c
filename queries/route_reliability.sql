-- How reliable a route is, all carriers together.
-- target: P95 of strategies/database.md
-- sample: SELECT origin, dest FROM marts.mart_route_reliability
-- scans: mart_route_reliability
select flight_count, cancelled_count, on_time_rate, mean_arr_delay_minutes, p95_arr_delay_minutes
from marts.mart_route_reliability
where origin = %(origin)s and dest = %(dest)s
