-- Which airline flew most, by its name.
select carriers.carrier_name, count(*) as flight_count
from marts.fct_flight as flights
left join marts.dim_carrier as carriers on flights.carrier = carriers.carrier
group by carriers.carrier_name
order by flight_count desc
limit 5
