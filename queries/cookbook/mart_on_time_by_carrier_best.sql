-- The most punctual airline of each month.
select distinct on (month_start) month_start, carrier_name, round(on_time_rate::numeric, 3) as on_time_rate, flight_count
from marts.mart_on_time_by_carrier
where flight_count >= 100
order by month_start, on_time_rate desc nulls last
