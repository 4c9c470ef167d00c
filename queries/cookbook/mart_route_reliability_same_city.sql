-- One destination from each of the three airports, side by side.
select dest, origin, flight_count, round(on_time_rate::numeric, 3) as on_time_rate
from marts.mart_route_reliability
where dest in ('ORD', 'LAX', 'BOS')
order by dest, origin
