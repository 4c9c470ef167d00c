-- Cancellations by the wind, all else added up.
select wind_band, sum(flight_count) as flight_count, round(sum(cancelled_count) / sum(flight_count), 4) as cancelled_rate
from marts.mart_weather_delay
group by wind_band
order by cancelled_rate desc
