-- The airports that lie highest.
select airport, airport_name, altitude_feet, time_zone
from marts.dim_airport
order by altitude_feet desc nulls last
limit 10
