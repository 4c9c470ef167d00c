"""The indexes that migrations make, read from their words, are those that PostgreSQL has when they have run."""

from __future__ import annotations

import re
from dataclasses import replace

from tests.conftest import CHECKOUT

from tidegate.evidence.promised_indexes import of_migrations
from tidegate.migrate import steps


def test_what_is_read_in_the_migrations_is_what_they_make() -> None:
    text = (CHECKOUT / "migrations/schema.sql").read_text()
    made = re.findall(r"^CREATE (?:UNIQUE )?INDEX (\w+) ON (\w+)\.", text, re.M)
    assert set(of_migrations(steps.read(CHECKOUT))) == {f"{schema}.{name}" for name, schema in made}


def test_what_a_later_migration_drops_or_renames_is_not_missed() -> None:
    first = steps.read(CHECKOUT)[0]
    words = (
        "CREATE INDEX a ON ops.x (n); CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS b ON ops.x (n);"
        "CREATE INDEX c ON ops.y (n) WHERE n > 0; CREATE INDEX d ON ops.y (n)",
        "DROP INDEX IF EXISTS ops.a; DROP TABLE ops.y; ALTER INDEX ops.b RENAME TO e; -- CREATE INDEX never ON ops.x (n)",
    )
    known = [replace(first, revision=str(n), up=up) for n, up in enumerate(words)]
    assert of_migrations(known[:1]) == {"ops.a": "0", "ops.b": "0", "ops.c": "0", "ops.d": "0"}
    assert of_migrations(known) == {"ops.e": "0"}
