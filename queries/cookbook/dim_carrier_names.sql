-- What the two letters of each airline stand for.
select carrier, carrier_name
from marts.dim_carrier
order by carrier
