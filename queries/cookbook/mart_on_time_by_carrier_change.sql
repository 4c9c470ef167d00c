-- By how much each airline became more or less punctual from one month to the next.
select
    carrier,
    month_start,
    round(on_time_rate::numeric, 3) as on_time_rate,
    round((on_time_rate - lag(on_time_rate) over (partition by carrier order by month_start))::numeric, 3) as change
from marts.mart_on_time_by_carrier
order by carrier, month_start
