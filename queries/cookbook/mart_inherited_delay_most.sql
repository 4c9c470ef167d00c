-- The airlines that inherit most of their delay from the leg before.
select carrier_name, departed_count, round(inherited_share::numeric, 3) as inherited_share
from marts.mart_inherited_delay
order by inherited_share desc nulls last
limit 5
