-- How the mean delay of departure grows over the day, airport by airport.
select scheduled_hour, origin, flight_count, round(mean_dep_delay_minutes::numeric, 1) as mean_dep_delay_minutes
from marts.mart_delay_by_hour
order by scheduled_hour, origin
