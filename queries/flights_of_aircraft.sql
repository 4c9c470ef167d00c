-- What one aircraft flew, in order.
-- target: P95 of strategies/database.md
-- sample: SELECT tailnum FROM raw.planes
select flight_date, carrier, flight, origin, dest, dep_delay_minutes, arr_delay_minutes
from marts.fct_flight
where tailnum = %(tailnum)s
order by scheduled_departure_at
