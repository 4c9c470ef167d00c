select
    time_hour,
    carrier,
    flight,
    origin,
    observation_at,
    observation_age_minutes,
    temp_fahrenheit,
    dewp_fahrenheit,
    humid_percent,
    wind_dir_degrees,
    wind_speed_mph,
    wind_gust_mph,
    precip_inches,
    pressure_millibars,
    visib_miles,
    _partition as partition_key,
    _batch_id as batch_id
from {{ source('core', 'flight_weather') }}
