-- All departures of an airport on one day.
-- target: P95 of strategies/database.md
-- sample: SELECT DISTINCT origin, flight_date FROM marts.fct_flight
select scheduled_departure_at, carrier, flight, dest, dep_delay_minutes, is_cancelled
from marts.fct_flight
where origin = %(origin)s and flight_date = %(flight_date)s
order by scheduled_departure_at
