-- A carrier's punctuality, month by month.
-- target: P95 of strategies/database.md
-- sample: SELECT carrier FROM raw.airlines
-- scans: mart_on_time_by_carrier
select month_start, flight_count, cancelled_count, on_time_rate, mean_arr_delay_minutes, p95_arr_delay_minutes
from marts.mart_on_time_by_carrier
where carrier = %(carrier)s
order by month_start
