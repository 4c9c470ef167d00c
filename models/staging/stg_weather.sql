select
    origin,
    time_hour as observation_at,
    temp as temp_fahrenheit,
    dewp as dewp_fahrenheit,
    humid as humid_percent,
    wind_dir as wind_dir_degrees,
    wind_speed as wind_speed_mph,
    wind_gust as wind_gust_mph,
    precip as precip_inches,
    pressure as pressure_millibars,
    visib as visib_miles,
    _partition as partition_key,
    _batch_id as batch_id
from {{ source('raw', 'weather') }}
