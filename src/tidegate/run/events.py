"""What happened to each flight, and when: one SQL text, by which the stream is made and its answer is checked.

DuckDB makes the messages of `tidegate replay` with it, PostgreSQL the rows that `raw.flight_event` must then hold. So it
uses no more than both understand, and no time-zone database: theirs need not agree.

- `scheduled`, every flight: 24 hours before its scheduled departure.
- `departed`, a flight with a departure time: its scheduled departure plus its delay.
- `arrived`, a flight with an arrival time: the first moment from its departure on at which the destination's clock shows
  that time. The clock's offset from UTC is the airport's, an hour more where it keeps daylight saving while New York does,
  as the flight's own local hour tells. An airport that `airports` lacks is taken to be on Atlantic time all year, as the
  four of the demo year are (BQN, PSE, SJU, STT). By this rule all 327,346 flights of the year whose time in the air is
  known stood on the ground for 5 to 235 minutes between leaving and arriving: a clock read wrongly would show.
- `cancelled`, a flight without a departure time: its scheduled departure.
"""

from __future__ import annotations

from datetime import date

TYPES = ("scheduled", "departed", "arrived", "cancelled")
#: Oldest first; events of one moment by their key, whose texts every collation puts in the same order.
ORDER = "event_at, time_hour, carrier, flight, event_type"
#: The offset from UTC, in hours, of airports that `airports` lacks.
ATLANTIC = -4

_ROWS = """
SELECT time_hour, carrier, flight, 'scheduled' AS event_type, scheduled_at - interval '24 hours' AS event_at,
       origin, dest, tailnum, scheduled_at, CAST(NULL AS integer) AS delay_minutes
FROM departed
UNION ALL
SELECT time_hour, carrier, flight, 'departed', departed_at, origin, dest, tailnum, scheduled_at, dep_delay
FROM departed WHERE dep_time IS NOT NULL
UNION ALL
SELECT time_hour, carrier, flight, 'arrived', departed_at + under_way_minutes * interval '1 minute',
       origin, dest, tailnum, scheduled_at, arr_delay
FROM arrived WHERE arr_time IS NOT NULL
UNION ALL
SELECT time_hour, carrier, flight, 'cancelled', scheduled_at, origin, dest, tailnum, scheduled_at, NULL
FROM departed WHERE dep_time IS NULL
"""


def query(first: date, last: date, flights: str, airports: str) -> str:
    """Return the SELECT of every event of the flights that were to depart from `first` to `last`, local dates.

    `flights` and `airports` are relations with the columns of their contracts, spelled as the engine takes them. Its
    columns are those of the contract `flight_event`, its order is ORDER.
    """
    return f"""
WITH flown AS (
    SELECT *, time_hour + minute * interval '1 minute' AS scheduled_at,
           CAST(extract(hour FROM time_hour AT TIME ZONE 'UTC') AS integer) AS utc_hour
    FROM {flights}
    WHERE make_date(year, month, day) BETWEEN DATE '{first:%Y-%m-%d}' AND DATE '{last:%Y-%m-%d}'
), departed AS (
    SELECT *, scheduled_at + dep_delay * interval '1 minute' AS departed_at FROM flown
), arrived AS (
    -- Both clocks in minutes of the day in UTC, from one to the other, within a day; the 7200 keep what mod() divides
    -- above zero.
    SELECT departed.*, mod(
        CAST(floor(arr_time / 100.0) AS integer) * 60 + mod(arr_time, 100)
        - 60 * coalesce(tz + CASE WHEN dst = 'A' AND mod(hour - utc_hour + 24, 24) = 20 THEN 1 ELSE 0 END, {ATLANTIC})
        - (utc_hour * 60 + minute + dep_delay) + 7200, 1440) AS under_way_minutes
    FROM departed LEFT JOIN {airports} AS airports ON airports.faa = departed.dest
)
SELECT * FROM ({_ROWS}) AS happened
ORDER BY {ORDER}
"""
