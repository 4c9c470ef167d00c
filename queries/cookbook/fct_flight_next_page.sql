-- A hundred flights, then the next hundred: by key, so that no row is shown twice when others come in between.
select time_hour, carrier, flight, origin, dest, arr_delay_minutes
from marts.fct_flight
where (time_hour, carrier, flight) > (timestamptz '2013-01-15 12:00+00', 'DL', 0)
order by time_hour, carrier, flight
limit 100
