select
    tailnum,
    built_year,
    plane_type,
    manufacturer,
    model,
    engine_count,
    seat_count,
    cruise_speed_mph,
    engine_type
from {{ ref('stg_planes') }}
