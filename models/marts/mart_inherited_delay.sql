with departures as (
    select
        flights.carrier,
        flights.is_cancelled,
        legs.previous_flight is not null as has_previous_leg,
        greatest(flights.dep_delay_minutes, 0) as late_minutes,
        coalesce(legs.inherited_delay_minutes, 0) as inherited_minutes
    from {{ ref('fct_flight') }} as flights
    left join {{ ref('stg_aircraft_leg') }} as legs
        on
            flights.time_hour = legs.time_hour
            and flights.carrier = legs.carrier
            and flights.flight = legs.flight
),

by_carrier as (
    select
        carrier,
        count(*) as flight_count,
        count(*) filter (where not is_cancelled) as departed_count,
        count(*) filter (where not is_cancelled and has_previous_leg) as following_count,
        count(*) filter (where not is_cancelled and inherited_minutes > 0) as inheriting_count,
        coalesce(sum(late_minutes) filter (where not is_cancelled), 0) as total_dep_delay_minutes,
        coalesce(sum(inherited_minutes) filter (where not is_cancelled), 0) as total_inherited_delay_minutes
    from departures
    group by carrier
)

select
    by_carrier.carrier,
    carriers.carrier_name,
    by_carrier.flight_count,
    by_carrier.departed_count,
    by_carrier.following_count,
    by_carrier.inheriting_count,
    by_carrier.total_dep_delay_minutes,
    by_carrier.total_inherited_delay_minutes,
    (
        by_carrier.total_inherited_delay_minutes::double precision
        / nullif(by_carrier.total_dep_delay_minutes, 0)
    ) as inherited_share
from by_carrier
left join {{ ref('dim_carrier') }} as carriers on by_carrier.carrier = carriers.carrier
