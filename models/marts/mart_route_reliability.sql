select
    flights.origin,
    flights.dest,
    {{ flight_measures() }}
from {{ ref('fct_flight') }} as flights
group by flights.origin, flights.dest
