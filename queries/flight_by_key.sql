-- One flight as it was delivered, by its key.
-- target: P95 of strategies/database.md
-- sample: SELECT time_hour, carrier, flight FROM raw.flights TABLESAMPLE SYSTEM (1)
select *
from raw.flights
where time_hour = %(time_hour)s and carrier = %(carrier)s and flight = %(flight)s
