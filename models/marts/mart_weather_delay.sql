with flights as (
    select
        fct_flight.is_cancelled,
        fct_flight.is_on_time,
        fct_flight.dep_delay_minutes,
        fct_flight.arr_delay_minutes,
        case
            when weather.wind_speed_mph < 10 then 'under 10 mph'
            when weather.wind_speed_mph < 20 then '10 to 20 mph'
            when weather.wind_speed_mph < 30 then '20 to 30 mph'
            when weather.wind_speed_mph >= 30 then '30 mph or more'
            else 'unknown'
        end as wind_band,
        case
            when weather.visib_miles < 1 then 'under 1 mile'
            when weather.visib_miles < 3 then '1 to 3 miles'
            when weather.visib_miles <= 5 then '3 to 5 miles'
            when weather.visib_miles > 5 then 'over 5 miles'
            else 'unknown'
        end as visibility_band,
        case
            when weather.precip_inches = 0 then 'none'
            when weather.precip_inches <= 0.1 then 'light'
            when weather.precip_inches <= 0.3 then 'moderate'
            when weather.precip_inches > 0.3 then 'heavy'
            else 'unknown'
        end as precipitation_band
    from {{ ref('fct_flight') }} as fct_flight
    left join {{ ref('stg_flight_weather') }} as weather
        on
            fct_flight.time_hour = weather.time_hour
            and fct_flight.carrier = weather.carrier
            and fct_flight.flight = weather.flight
)

select
    flights.wind_band,
    flights.visibility_band,
    flights.precipitation_band,
    {{ flight_measures() }},
    avg(flights.dep_delay_minutes)::double precision as mean_dep_delay_minutes,
    avg(flights.is_cancelled::int)::double precision as cancelled_rate
from flights
group by flights.wind_band, flights.visibility_band, flights.precipitation_band
