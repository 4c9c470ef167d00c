"""Every migration there and back: alone in an empty database, and the whole chain over the warehouse's own rows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from tidegate.backup import compare
from tidegate.evidence.probe import Finding, Ground
from tidegate.migrate import door, locks, steps
from tidegate.migrate.steps import Step
from tidegate.publish import marts
from tidegate.stack import dump
from tidegate.stores.postgres import connect_to, warehouse_url

_INTEGRATION = "tests/integration"
#: Tables that change with every migration: what it was, what it did, and who was last let in where, which a way down
#: takes back and the next publish gives again.
_WRITTEN = ("ops.table_layout", "ops.migration", "ops.schema_change", "ops.audit", "ops.audit_seal")


def each(ground: Ground) -> Iterator[Finding]:
    """Take each migration up, down and up again; after each way the schema is compared with what it was."""
    project = ground.settings.project
    with ground.rehearsal.scratch("each_migration") as dsn:
        # Alembic's own table lies there, so it is made before the first migration.
        ground.psql(dsn, "--quiet", "--command=CREATE SCHEMA ops")
        for step in steps.read(project):
            before = _schema(ground, dsn)
            held = _locks(dsn, step)
            above = ""
            for way in ("up", "down", "reup"):
                began = time.monotonic()
                if way == "down":
                    door.downgrade(dsn, project, step.before)
                else:
                    door.upgrade(dsn, project, step.revision)
                seconds = time.monotonic() - began
                after = _schema(ground, dsn)
                expected = {"up": None, "down": before, "reup": above}[way]
                above = after if way == "up" else above
                found = _way(step, way, seconds, before if way != "down" else above, after, expected)
                yield replace(found, figures=found.figures | {"locks": held}) if way == "up" else found


def chain(ground: Ground) -> Iterator[Finding]:
    """Take all migrations down and up again over the rows of the warehouse, first to last and back, and compare both."""
    project, url = ground.settings.project, ground.rehearsal.dsn()
    settings = ground.rehearsal.settings(ground.settings)
    known = steps.read(project)
    door.upgrade(url, project)
    # A way down leaves the marts' tables alone, without the views that choose among them: the next build opens those first.
    marts.open_window(settings)
    before, held = dump.schema(settings), _held(ground)
    yield Finding("migrations/schema_before.sql", before, {"lines": before.count("\n")}, "pg_dump --schema-only")
    told = []
    for way, target in (("down", "base"), ("up", "head"), ("down", "base"), ("up", "head")):
        began = time.monotonic()
        (door.downgrade if way == "down" else door.upgrade)(url, project, target)
        told.append(f"{way} to {target}: {len(known)} migrations, {time.monotonic() - began:.2f} s")
    marts.open_window(settings)
    after, now = dump.schema(settings), _held(ground)
    lost = compare.differences(held, now)
    changed = _diff(before, after)
    figures = {"migrations": len(known), "tables": len(held), "rows": sum(rows for rows, _ in held.values()),
               "tables_that_differ": len(lost), "schema_lines_that_differ": len(changed)}  # fmt: skip
    text = "\n".join([*told, *lost, *changed, f"{figures['rows']} rows of {len(held)} tables compared"])
    bad = int(bool(lost or changed))
    yield Finding("migrations/schema_after.sql", after, {"lines": after.count("\n")}, "pg_dump --schema-only")
    for file in ("migrations/rollback_test.log", f"{_INTEGRATION}/migration_full_chain.log"):
        yield Finding(file, text, figures, "tidegate migrate down --to base; tidegate migrate up", bad)


def last(ground: Ground) -> Iterator[Finding]:
    """Apply what is pending, take the last migration back and apply it again, all over the warehouse's rows."""
    project, url = ground.settings.project, ground.rehearsal.dsn()
    step = steps.read(project)[-1]
    ways = [
        ("up", step.revision, ("alembic_upgrade",)),
        ("down", step.before, ("migrate_down", "alembic_downgrade")),
        ("up", step.revision, ("migrate_up", "alembic_reupgrade")),
    ]
    for way, target, files in ways:
        began = time.monotonic()
        done = (door.upgrade if way == "up" else door.downgrade)(url, project, target)
        seconds = time.monotonic() - began
        told = [f"{one.revision} {way}: {one.title}" for one in done] or ["nothing was pending"]
        figures = {"migrations": len(done), "seconds": round(seconds, 3)}
        for file in files:
            yield Finding(f"migrations/{file}.log", "\n".join(told), figures, f"tidegate migrate {way}")
    stands = door.standing(warehouse_url(ground.rehearsal.settings(ground.settings)), project)
    lines = [f"{s.step.revision} {'applied' if s.applied else 'pending'}  {s.step.title}" for s in stands]
    figures = {"applied": sum(s.applied for s in stands), "pending": sum(not s.applied for s in stands)}
    yield Finding("migrations/alembic_current.log", "\n".join(lines), figures, "tidegate migrate status")


def _locks(dsn: str, step: Step) -> dict[str, str]:
    """Return the strongest lock that the way up takes on each table that is there before it."""
    with connect_to(dsn, autocommit=True) as connection:
        return {held.table: held.mode for held in locks.trace(connection, step.up)}


def _way(step: Step, way: str, seconds: float, before: str, after: str, expected: str | None) -> Finding:
    wrong = [] if expected is None else _diff(expected, after)
    statements = step.down if way == "down" else step.up
    text = "\n".join([
        f"{step.revision} {way} ({step.phase}): {step.title}, {seconds:.3f} s", "", statements.strip(), "",
        "what it changed in the schema:", *(_diff(before, after) or ["nothing that pg_dump tells"]), "",
        *([] if expected is None else ["what is not as it was before:", *(wrong or ["nothing"])]),
    ])  # fmt: skip
    figures = {"seconds": round(seconds, 3), "schema_lines_that_differ": len(wrong)}
    file = f"{_INTEGRATION}/migration_{step.revision}_{way}.log"
    return Finding(file, text, figures, f"tidegate migrate {'down' if way == 'down' else 'up'}", int(bool(wrong)))


def _schema(ground: Ground, dsn: str) -> str:
    """Return a database's schema without what the ways down have set aside."""
    found = dump.schema(
        ground.rehearsal.settings(ground.settings, dsn), "--exclude-schema=aside_*", "--exclude-table=ops.migration"
    )
    return "\n".join(line for line in found.splitlines() if "aside_" not in line)


def _held(ground: Ground) -> compare.Fingerprints:
    """Return what the tables hold, but for those that every migration changes."""
    with connect_to(ground.rehearsal.primary.dsn("warehouse"), autocommit=True) as connection:
        found = compare.fingerprints(connection)
    return {name: held for name, held in found.items() if name not in _WRITTEN}


def _diff(before: str, after: str) -> list[str]:
    """Return the lines that only one of two schemas has; where in a table a column stands is no difference."""
    one, other = (Counter(line.rstrip(",") for line in text.splitlines() if line.strip()) for text in (before, after))
    return [f"- {line}" for line in (one - other).elements()] + [f"+ {line}" for line in (other - one).elements()]
