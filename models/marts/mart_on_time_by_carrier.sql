select
    flights.carrier,
    carriers.carrier_name,
    flights.month_start,
    {{ flight_measures() }}
from {{ ref('fct_flight') }} as flights
left join {{ ref('dim_carrier') }} as carriers on flights.carrier = carriers.carrier
group by flights.carrier, carriers.carrier_name, flights.month_start
