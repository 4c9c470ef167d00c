-- The days on which most flights were cancelled.
select flight_date, count(*) as flight_count, count(*) filter (where is_cancelled) as cancelled_count
from marts.fct_flight
group by flight_date
order by cancelled_count desc, flight_date
limit 10
