"""Publish a whole set of marts at once: build beside, judge, then swap in one transaction.

`marts_next` is built while readers look through `marts` (see `window`) at `marts_current`. Publishing renames
marts_current → marts_previous, marts_next → marts_current, and what was marts_previous becomes the ground for the
next build. Renaming a schema takes no lock on any table, so a long-running reader neither waits nor is waited
for. Which build a schema holds is its comment, which travels with it.
"""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

import structlog
from psycopg import sql

from tidegate.errors import HeldError, UsageError
from tidegate.gates import ledger
from tidegate.gates.expectations import Suite, domain_suite, judge_table
from tidegate.gates.verdict import Evidence, Verdict, counted, evidence_folder, reason_to_hold, worst, written_in
from tidegate.publish import schemas, window
from tidegate.publish.window import WINDOW
from tidegate.settings import Settings
from tidegate.stores.postgres import Connection, connect, exclusive, number, table

log = structlog.get_logger(__name__)

CURRENT, NEXT, PREVIOUS = "marts_current", "marts_next", "marts_previous"
_LOCK = "the marts"


def prepare(settings: Settings) -> str:
    """Name the build that the published batches and the models' code call for, and make room for it.

    The same batches and the same code give the same build; if that one is published, there is nothing to do.
    """
    with connect(settings) as connection, exclusive(connection, _LOCK):
        inputs = {f"{b.dataset} {b.partition}": b.batch_id for b in ledger.batches(connection, state="published")}
        told = json.dumps({"inputs": inputs, "code": _code(settings)}, sort_keys=True)
        build_id = hashlib.sha256(told.encode()).hexdigest()[:16]
        connection.execute(
            "INSERT INTO ops.marts_build (build_id, state, inputs) VALUES (%s, 'built', %s::jsonb) "
            "ON CONFLICT (build_id) DO UPDATE SET state = 'built' WHERE marts_build.state <> 'published'",
            [build_id, json.dumps(inputs)],
        )
        connection.commit()
        _look_after_window(connection)
        if state(connection, build_id) != "published":
            window.make_room(connection, NEXT)
            connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(NEXT)))
            schemas.comment(connection, NEXT, build_id)
        connection.commit()
        return build_id


def open_window(settings: Settings) -> None:
    """Let readers see the published marts where the views on them are gone: a migration taken back leaves the tables alone."""
    with connect(settings) as connection, exclusive(connection, _LOCK):
        _look_after_window(connection)
        connection.commit()


def _look_after_window(connection: Connection) -> None:
    """Close what a run that was killed between its two transactions left open: views on the candidate."""
    swap = window.swap_number(connection)
    if swap and not window.is_open_for(connection, swap):
        before = PREVIOUS if schemas.exists(connection, PREVIOUS) else None
        window.open_on(connection, swap, before, CURRENT)
    connection.commit()
    window.clear_away(connection)


def state(connection: Connection, build_id: str) -> str:
    """Return a build's state; UsageError if there is no such build."""
    row = connection.execute("SELECT state FROM ops.marts_build WHERE build_id = %s", [build_id]).fetchone()
    if row is None:
        raise UsageError(f"no build {build_id!r} of the marts; `tidegate marts show` lists them")
    return str(row["state"])


def is_published(settings: Settings, build_id: str) -> bool:
    """Return whether readers see this build."""
    with connect(settings) as connection:
        return state(connection, build_id) == "published"


def judge(settings: Settings, build_id: str) -> str:
    """Judge the candidate in `marts_next`: rows reconciled with `raw`, and every suite named after one of its tables.

    Returns the build's state: `judged` (it may be published), `held`, or `published` if it already is.
    """
    with connect(settings) as connection, exclusive(connection, _LOCK):
        if state(connection, build_id) == "published":
            return "published"
        _require_candidate(connection, build_id)
        with ledger.timed(settings, build_id, "judge") as timing:
            folder = evidence_folder(settings.home, WINDOW, build_id)
            verdicts, evidence = _reconcile(connection, build_id, folder)
            connection.commit()
            for name in schemas.columns(connection, NEXT, schemas.TABLES):
                suite = domain_suite(settings.project, name)
                if suite is not None:
                    named = Suite("marts", suite.expectations)
                    decided, files = judge_table(settings, NEXT, name, [named], folder / name)
                    verdicts += decided
                    evidence += files
            ledger.record_verdicts(connection, build_id, WINDOW, None, verdicts, evidence)
            reason = reason_to_hold(verdicts)
            decision = "held" if reason else "judged"
            connection.execute(
                "UPDATE ops.marts_build SET state = %s, held_reason = %s WHERE build_id = %s",
                [decision, reason, build_id],
            )
            connection.commit()
            timing.note = worst(verdicts)
        log.info("marts judged", dataset=WINDOW, batch_id=build_id, verdict=timing.note, held_reason=reason)
        return decision


def _require_candidate(connection: Connection, build_id: str) -> None:
    found = schemas.comment_on(connection, NEXT)
    if found != build_id:
        raise UsageError(f"{NEXT} holds build {found or 'none'}, not {build_id}: prepare and build it first")


def _reconcile(connection: Connection, build_id: str, folder: Path) -> tuple[list[Verdict], list[Evidence]]:
    """Compare every count of flights in the candidate with what is published in `raw`."""
    expected = number(connection, "SELECT count(*) FROM raw.flights")
    verdicts = []
    figures = {"build": build_id, "raw.flights": expected}
    for name, columns in schemas.columns(connection, NEXT, schemas.TABLES).items():
        if name == "fct_flight":
            query, what = sql.SQL("count(*)"), "rows"
        elif name.startswith("mart_") and any(column.name == "flight_count" for column in columns):
            query, what = sql.SQL("coalesce(sum(flight_count), 0)"), "flights counted"
        else:
            continue
        found = number(connection, sql.SQL("SELECT {} FROM {}").format(query, table(NEXT, name)))
        figures[name] = found
        verdicts.append(
            Verdict(
                gate="reconciliation",
                rule=f"{name}: {what} = rows of raw.flights",
                verdict="PASS" if found == expected else "FAIL",
                value=str(found),
                target=str(expected),
                target_source=written_in(_reconcile),
                rule_set_version=version("tidegate"),
            )
        )
    if not any(v.rule.startswith("fct_flight") for v in verdicts):
        raise UsageError(f"{NEXT} holds no fct_flight: run `dbt build` before its gate")
    return counted(folder / "reconciliation.json", figures, verdicts)


def publish(settings: Settings, build_id: str) -> None:
    """Make the judged candidate the visible marts, in one transaction.

    Raises:
        HeldError: a gate holds the build, or it has not been judged.
        UsageError: `marts_next` holds another build.
    """
    with connect(settings) as connection, exclusive(connection, _LOCK):
        current = state(connection, build_id)
        if current == "published":
            return
        if current == "held":
            row = connection.execute(
                "SELECT held_reason FROM ops.marts_build WHERE build_id = %s", [build_id]
            ).fetchone()
            reason = row["held_reason"] if row else ""
            raise HeldError(
                f"build {build_id} of the marts is held: {reason}. Readers keep the marts they have; repair the data, "
                "the model or the rule, then `tidegate marts build`"
            )
        if current != "judged":
            raise HeldError(f"build {build_id} of the marts is {current}, not judged: run the gate, then publish")
        _require_candidate(connection, build_id)
        connection.commit()
        with ledger.timed(settings, build_id, "publish"):
            _swap_in(connection, NEXT, build_id, "superseded")
        log.info("marts published", dataset=WINDOW, batch_id=build_id)


def undo(settings: Settings, *, by: str, why: str) -> str:
    """Swap the visible marts with those before them; return the build that is visible now.

    Raises:
        UsageError: there is no earlier set of marts, it was itself taken back, or no reason is given.
    """
    with connect(settings) as connection, exclusive(connection, _LOCK):
        now, before = schemas.comment_on(connection, CURRENT), schemas.comment_on(connection, PREVIOUS)
        if now is None or before is None or state(connection, before) != "superseded":
            raise UsageError(
                "there are no earlier marts to go back to: only the last publish can be undone; `tidegate marts build` "
                "builds the marts of what is published now"
            )
        connection.commit()
        _swap_in(connection, PREVIOUS, before, "undone", decided=(by, why))
        log.info("marts undone", dataset=WINDOW, batch_id=now, visible=before)
        return before


def _swap_in(
    connection: Connection, schema: str, build_id: str, fate: str, decided: tuple[str, str] | None = None
) -> None:
    """Show the set that stands in `schema`; the one that is shown now becomes the previous one.

    First the window is opened on both, still showing the present one; then one transaction changes what it shows.
    """
    swap = window.swap_number(connection) + 1
    current = CURRENT if schemas.exists(connection, CURRENT) else None
    connection.commit()
    with connection.transaction():
        window.open_on(connection, swap, current, schema)
    window.settle(connection)
    with connection.transaction():
        _rotate(connection, schema)
        row = connection.execute(
            "UPDATE ops.marts_build SET state = %s WHERE state = 'published' RETURNING build_id", [fate]
        ).fetchone()
        connection.execute(
            "UPDATE ops.marts_build SET state = 'published', published_at = now() WHERE build_id = %s", [build_id]
        )
        connection.execute("INSERT INTO ops.marts_swap (swap_id, build_id) VALUES (%s, %s)", [swap, build_id])
        if decided and row:
            ledger.record_decision(connection, row["build_id"], "undo", *decided)
    window.clear_away(connection)


def _rotate(connection: Connection, schema: str) -> None:
    schemas.rename(connection, schema, "marts_arriving")
    for old, new in ((PREVIOUS, NEXT), (CURRENT, PREVIOUS), ("marts_arriving", CURRENT)):
        if schemas.exists(connection, old):
            schemas.rename(connection, old, new)


def _code(settings: Settings) -> str:
    """Hash what decides the marts besides their data: models, macros, the project file and the suites."""
    digest = hashlib.sha256()
    roots = ("models", "macros", "dbt_project.yml", "expectations")
    for root in roots:
        path = settings.project / root
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        for file in files:
            digest.update(str(file.relative_to(settings.project)).encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()
