-- The on-time rate of each hour over all three airports: added up by counts, never as a mean of rates.
select scheduled_hour, round(sum(on_time_count) / nullif(sum(arrived_count), 0), 3) as on_time_rate
from marts.mart_delay_by_hour
group by scheduled_hour
order by scheduled_hour
