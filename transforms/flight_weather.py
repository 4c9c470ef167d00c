"""flight_weather: each flight with the last weather observation at its origin, and how old it was.

Grain: one row per flight. Key: `time_hour, carrier, flight`.

Columns:

- `time_hour, carrier, flight, origin`: as in `flights`.
- `observation_at`: hour of the last observation at `origin` not later than `time_hour`; null before any.
- `observation_age_minutes`: from `observation_at` to `time_hour`; 0 when the hour itself was observed.
- `temp_fahrenheit`, `dewp_fahrenheit`, `humid_percent`, `wind_dir_degrees`, `wind_speed_mph`,
  `wind_gust_mph`, `precip_inches`, `pressure_millibars`, `visib_miles`: that observation, whole. A measure
  that it lacks stays null: an older observation never fills it in.

The hours that flights ask for and the hours that were observed are laid on one timeline per airport, and the
last observation is carried along it. Every join is by equality and the window holds hours, not flights: no
row is ever compared with more than one other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

INPUTS = ("flights", "weather")

MEASURES = {
    "temp": "temp_fahrenheit",
    "dewp": "dewp_fahrenheit",
    "humid": "humid_percent",
    "wind_dir": "wind_dir_degrees",
    "wind_speed": "wind_speed_mph",
    "wind_gust": "wind_gust_mph",
    "precip": "precip_inches",
    "pressure": "pressure_millibars",
    "visib": "visib_miles",
}
"""Column of `weather` → column here, which names its unit."""


def transform(flights: DataFrame, weather: DataFrame) -> DataFrame:
    """Return one row per flight, in the columns defined above."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F  # noqa: N812 - the name that every Spark reader knows

    place_and_hour = ["origin", "time_hour"]
    observation = F.struct(
        F.col("time_hour").alias("observation_at"),
        *(F.col(raw).alias(name) for raw, name in MEASURES.items()),
    )
    observed = weather.select(*place_and_hour, observation.alias("observation"))
    asked = flights.select(*place_and_hour).distinct()
    so_far = Window.partitionBy("origin").orderBy("time_hour").rowsBetween(Window.unboundedPreceding, Window.currentRow)
    timeline = asked.join(observed, place_and_hour, "full").select(
        *place_and_hour, F.last("observation", ignorenulls=True).over(so_far).alias("observation")
    )
    seconds_old = F.unix_seconds("time_hour") - F.unix_seconds("observation.observation_at")
    return flights.join(timeline, place_and_hour, "left").select(
        "time_hour",
        "carrier",
        "flight",
        "origin",
        F.col("observation.observation_at"),
        (seconds_old / 60).cast("int").alias("observation_age_minutes"),
        *(F.col(f"observation.{name}") for name in MEASURES.values()),
    )
