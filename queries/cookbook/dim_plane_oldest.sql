-- The oldest aircraft of which the year is known.
select tailnum, built_year, manufacturer, model
from marts.dim_plane
where built_year is not null
order by built_year, tailnum
limit 10
