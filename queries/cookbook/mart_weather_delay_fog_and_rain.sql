-- The weather in which departures were late longest, of bands with at least a hundred flights.
select wind_band, visibility_band, precipitation_band, flight_count, round(mean_dep_delay_minutes::numeric, 1) as mean_dep_delay_minutes
from marts.mart_weather_delay
where flight_count >= 100
order by mean_dep_delay_minutes desc nulls last
limit 10
