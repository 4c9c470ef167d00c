select
    tailnum,
    year as built_year,
    type as plane_type,
    manufacturer,
    model,
    engines as engine_count,
    seats as seat_count,
    speed as cruise_speed_mph,
    engine as engine_type,
    _partition as partition_key,
    _batch_id as batch_id
from {{ source('raw', 'planes') }}
