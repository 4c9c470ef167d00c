-- Destinations that the register of airports does not know, with how many flights went there.
select flights.dest, count(*) as flight_count
from marts.fct_flight as flights
left join marts.dim_airport as airports on flights.dest = airports.airport
where airports.airport is null
group by flights.dest
order by flight_count desc
