select
    airport,
    airport_name,
    latitude_degrees,
    longitude_degrees,
    altitude_feet,
    utc_offset_hours,
    dst_rule,
    time_zone
from {{ ref('stg_airports') }}
