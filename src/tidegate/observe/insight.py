"""What the published marts say: their rows made ready for plots and tables, and a sentence about each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from tidegate.observe import plots
from tidegate.stores.postgres import Connection, exists, table

Row = dict[str, Any]

MARTS = "marts"

#: Rates of few flights say little: below the first they are not coloured, below the second not called best.
COLOURED_FROM, NAMED_FROM = 20, 100
_MONTHS_SHOWN = 24


@dataclass(frozen=True)
class Insight:
    """One plot with its heading, its sentence, and the same figures as a table."""

    name: str
    heading: str
    sentence: str
    svg: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


def read(connection: Connection) -> list[Insight]:
    """Read what the published marts say; a mart that is absent or empty is left out."""
    told = []
    for mart, order, tell in _TOLD:
        if not exists(connection, MARTS, mart):
            continue
        query = sql.SQL("SELECT * FROM {} ORDER BY {}").format(
            table(MARTS, mart), sql.SQL(", ").join(map(sql.Identifier, order))
        )
        if rows := connection.execute(query).fetchall():
            told.append(tell(rows))
    return told


def _on_time(rows: Sequence[Row]) -> Insight:
    months = sorted({row["month_start"] for row in rows})[-_MONTHS_SHOWN:]
    rows = [row for row in rows if row["month_start"] in months]
    label = "%b" if months[0].year == months[-1].year else "%b %y"
    by_carrier: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_carrier[_carrier(row)].append(row)
    mean = _rate(rows) or 0.0
    ranked = sorted(by_carrier, key=lambda name: _rate(by_carrier[name]) or 0, reverse=True)
    cells = [
        {
            "carrier_name": _carrier(row),
            "month": row["month_start"].strftime(label),
            "label": "n/a" if row["on_time_rate"] is None else f"{100 * row['on_time_rate']:.0f}",
            "points": 100 * (row["on_time_rate"] - mean) if _is_coloured(row) else None,
        }
        for row in rows
    ]
    arrived = _sum(rows, "arrived_count")
    sentence = f"Of {arrived:,} arrivals, {_percent(mean)} were on time: less than 15 minutes late."
    judged = [name for name in ranked if _sum(by_carrier[name], "arrived_count") >= NAMED_FROM]
    if len(judged) > 1:
        best, last = judged[0], judged[-1]
        sentence += (
            f" {best} did best with {_percent(_rate(by_carrier[best]))}, "
            f"{last} worst with {_percent(_rate(by_carrier[last]))}."
        )
    return Insight(
        name="on-time",
        heading="On time, by carrier and month",
        sentence=sentence,
        svg=plots.heat_map(
            cells,
            ranked,
            [month.strftime(label) for month in months],
            "On-time rate by carrier and month, in percent",
            sentence,
        ),
        columns=("Carrier", "Month", "Flights", "Cancelled", "Arrived", "On time", "On-time rate"),
        rows=[
            (
                _carrier(row), f"{row['month_start']:%Y-%m}", f"{row['flight_count']:,}",
                f"{row['cancelled_count']:,}", f"{row['arrived_count']:,}", f"{row['on_time_count']:,}",
                _percent(row["on_time_rate"]),
            )
            for row in rows
        ],
    )  # fmt: skip


def _by_hour(rows: Sequence[Row]) -> Insight:
    shown = ("origin", "scheduled_hour", "mean_dep_delay_minutes")
    drawn = [{name: row[name] for name in shown} for row in rows if row["mean_dep_delay_minutes"] is not None]
    sentence = "No flight has departed yet."
    if drawn:
        low, high = (of(drawn, key=lambda row: row["mean_dep_delay_minutes"]) for of in (min, max))
        sentence = (
            f"The mean departure delay is smallest at {low['scheduled_hour']:02d}:00 from {low['origin']} "
            f"({_minutes(low['mean_dep_delay_minutes'])}), largest at {high['scheduled_hour']:02d}:00 from "
            f"{high['origin']} "
            f"({_minutes(high['mean_dep_delay_minutes'])})."
        )
    return Insight(
        name="by-hour",
        heading="Departure delay, by hour of day",
        sentence=sentence,
        svg=plots.lines(drawn, "Mean departure delay by hour and origin", sentence) if drawn else "",
        columns=("Origin", "Hour", "Flights", "Cancelled", "Mean departure delay", "Mean arrival delay"),
        rows=[
            (
                row["origin"], f"{row['scheduled_hour']:02d}:00", f"{row['flight_count']:,}",
                f"{row['cancelled_count']:,}", _minutes(row["mean_dep_delay_minutes"]),
                _minutes(row["mean_arr_delay_minutes"]),
            )
            for row in rows
        ],
    )  # fmt: skip


def _inherited(rows: Sequence[Row]) -> Insight:
    ranked = sorted(rows, key=lambda row: row["inherited_share"] or 0.0, reverse=True)
    drawn = [row for row in ranked if row["inherited_share"] is not None]
    late = _sum(rows, "total_dep_delay_minutes")
    share = _sum(rows, "total_inherited_delay_minutes") / late if late else None
    sentence = (
        f"Of {late:,} minutes of departure delay, {_percent(share)} came with an "
        "aircraft that had arrived late from its previous leg."
    )
    judged = [row for row in drawn if row["departed_count"] >= NAMED_FROM]
    if len(judged) > 1:
        first, last = judged[0], judged[-1]
        sentence += (
            f" The share is largest at {_carrier(first)} ({_percent(first['inherited_share'])}), "
            f"smallest at {_carrier(last)} ({_percent(last['inherited_share'])})."
        )
    bars = [
        {
            "carrier_name": _carrier(row),
            "inherited_share": row["inherited_share"],
            "label": _percent(row["inherited_share"]),
        }
        for row in drawn
    ]
    return Insight(
        name="inherited",
        heading="Inherited delay, by carrier",
        sentence=sentence,
        svg=plots.bars(bars, "Share of departure delay that is inherited", sentence) if bars else "",
        columns=("Carrier", "Flights", "Inheriting", "Minutes of delay", "Minutes inherited", "Share"),
        rows=[
            (
                _carrier(row), f"{row['flight_count']:,}", f"{row['inheriting_count']:,}",
                f"{row['total_dep_delay_minutes']:,}", f"{row['total_inherited_delay_minutes']:,}",
                _percent(row["inherited_share"]),
            )
            for row in ranked
        ],
    )  # fmt: skip


_TOLD: tuple[tuple[str, tuple[str, ...], Callable[[Sequence[Row]], Insight]], ...] = (
    ("mart_on_time_by_carrier", ("carrier", "month_start"), _on_time),
    ("mart_delay_by_hour", ("origin", "scheduled_hour"), _by_hour),
    ("mart_inherited_delay", ("carrier",), _inherited),
)


def _is_coloured(row: Row) -> bool:
    return int(row["arrived_count"]) >= COLOURED_FROM


def _carrier(row: Row) -> str:
    return str(row["carrier_name"] or row["carrier"])


def _sum(rows: Sequence[Row], column: str) -> int:
    return sum(int(row[column]) for row in rows)


def _rate(rows: Sequence[Row]) -> float | None:
    arrived = _sum(rows, "arrived_count")
    return _sum(rows, "on_time_count") / arrived if arrived else None


def _percent(share: float | None) -> str:
    return "n/a" if share is None else f"{100 * share:.1f} %"


def _minutes(minutes: float | None) -> str:
    return "n/a" if minutes is None else f"{minutes:.1f} min"
