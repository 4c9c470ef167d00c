"""aircraft_leg: each aircraft's recorded flights in scheduled order, and what a late aircraft hands on.

Grain: one row per flight with a known `tailnum`. Key: `time_hour, carrier, flight`.

Columns (minutes are whole, instants are UTC):

- `time_hour, carrier, flight, tailnum, origin, dest`: as in `flights`.
- `leg_number`: 1 for the aircraft's first flight, then 2, 3, … by scheduled departure (then `time_hour`,
  `carrier`, `flight`, so that two flights of one minute keep one order). Cancelled flights count.
- `scheduled_departure_at`: `time_hour` plus `minute`.
- `dep_delay_minutes`, `arr_delay_minutes`: as in `flights`; null when cancelled, or diverted.
- `previous_carrier`, `previous_flight`, `previous_time_hour`: key of leg `leg_number - 1`; null on leg 1.
- `previous_arr_delay_minutes`: that leg's arrival delay.
- `turnaround_minutes`: from that leg's landing to this leg's scheduled departure. The landing is reckoned as
  scheduled departure + departure delay + air time, which leaves out its taxiing. Null when that leg never
  landed as planned; negative when it landed after this leg should have left.
- `inherited_delay_minutes`: the part of the departure delay that the late previous arrival explains:

      shortfall = what the aircraft needed after landing - turnaround_minutes
      inherited = the least of departure delay, previous arrival delay, shortfall; at least 0

  The need is GROUND_MINUTES at an airport where both legs meet. Where they don't, the aircraft came back on a
  flight that the data lack, so it is GROUND_MINUTES at both ends and a flight back as long as the flight out.
  docs/transforms.md says where the figure comes from, and what the definition cannot see.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

INPUTS = ("flights",)

GROUND_MINUTES = 60
"""Taxi in, turn, taxi out at one airport, for an airline in a hurry: measured in docs/transforms.md."""


def transform(flights: DataFrame) -> DataFrame:
    """Return one row per flight with a known `tailnum`, in the columns defined above."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F  # noqa: N812 - the name that every Spark reader knows

    legs = flights.where(F.col("tailnum").isNotNull()).withColumn(
        "scheduled_departure_at", F.timestamp_add("MINUTE", F.col("minute"), F.col("time_hour"))
    )
    in_order = Window.partitionBy("tailnum").orderBy("scheduled_departure_at", "time_hour", "carrier", "flight")
    landed_at = F.timestamp_add("MINUTE", F.col("dep_delay") + F.col("air_time"), F.col("scheduled_departure_at"))
    rotations = legs.select(
        "*",
        F.row_number().over(in_order).alias("leg_number"),
        *(
            F.lag(value).over(in_order).alias(f"previous_{name}")
            for name, value in {
                "carrier": F.col("carrier"),
                "flight": F.col("flight"),
                "time_hour": F.col("time_hour"),
                "dest": F.col("dest"),
                "air_time": F.col("air_time"),
                "arr_delay_minutes": F.col("arr_delay"),
                "landed_at": landed_at,
            }.items()
        ),
    ).withColumn(
        "turnaround_minutes",
        F.timestamp_diff("MINUTE", F.col("previous_landed_at"), F.col("scheduled_departure_at")).cast("int"),
    )

    needed = F.when(F.col("previous_dest") == F.col("origin"), GROUND_MINUTES).otherwise(
        2 * GROUND_MINUTES + F.col("previous_air_time")
    )
    shares = (F.col("dep_delay"), F.col("previous_arr_delay_minutes"), needed - F.col("turnaround_minutes"))
    # Spark's least() passes over nulls, so an unknown share has to be ruled out before it.
    all_known = shares[0].isNotNull() & shares[1].isNotNull() & shares[2].isNotNull()
    inherited = F.when(all_known, F.greatest(F.least(*shares), F.lit(0))).otherwise(0)

    return rotations.select(
        "time_hour",
        "carrier",
        "flight",
        "tailnum",
        "leg_number",
        "origin",
        "dest",
        "scheduled_departure_at",
        F.col("dep_delay").alias("dep_delay_minutes"),
        F.col("arr_delay").alias("arr_delay_minutes"),
        "previous_carrier",
        "previous_flight",
        "previous_time_hour",
        "previous_arr_delay_minutes",
        "turnaround_minutes",
        inherited.cast("int").alias("inherited_delay_minutes"),
    )
