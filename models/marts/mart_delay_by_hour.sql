select
    flights.origin,
    flights.scheduled_hour,
    {{ flight_measures() }},
    avg(flights.dep_delay_minutes)::double precision as mean_dep_delay_minutes
from {{ ref('fct_flight') }} as flights
group by flights.origin, flights.scheduled_hour
