select
    carrier,
    name as carrier_name,
    _partition as partition_key,
    _batch_id as batch_id
from {{ source('raw', 'airlines') }}
