-- The share of flights whose aircraft the registry lacks: why it is joined from the left.
select count(*) as flight_count, round(avg((planes.tailnum is null)::int), 3) as share_missing
from marts.fct_flight as flights
left join marts.dim_plane as planes on flights.tailnum = planes.tailnum
