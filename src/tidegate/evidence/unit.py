"""pgTAP: what tables, columns, functions, triggers and policies promise, tested inside the database, three times over."""

from __future__ import annotations

import re
from collections.abc import Iterator

import psycopg

from tidegate.errors import first_line
from tidegate.evidence.probe import CannotRunError, Finding, Ground, run
from tidegate.stores.postgres import libpq_environment_of

#: A test that passes once and fails once has found nothing, or everything: it is run until that would show.
ROUNDS = 3


def pgtap(ground: Ground) -> Iterator[Finding]:
    """Run every file of `tests/sql` by pg_prove, each in a transaction that is rolled back."""
    files = sorted((ground.settings.project / "tests" / "sql").glob("*.sql"))
    superuser = ground.peopled().primary.dsn("warehouse")
    with psycopg.connect(superuser, autocommit=True) as connection:
        try:
            connection.execute("CREATE EXTENSION IF NOT EXISTS pgtap")
        except psycopg.errors.UndefinedFile as error:
            raise CannotRunError(
                f"the server has no pgTAP ({first_line(error)}): `bin/bootstrap test` installs it"
            ) from error
    said, outcomes, status = [], set[tuple[tuple[str, str], ...]](), 0
    for number in range(1, ROUNDS + 1):
        ran = run(["pg_prove", "--verbose", "--nocolor", *files], libpq_environment_of(superuser))
        said.append(f"round {number} of {ROUNDS}\n{ran.said}")
        # Without their numbers: what is asked of the catalog comes in any order.
        outcomes.add(tuple(sorted(re.findall(r"^((?:not )?ok) \d+( .*)?$", ran.said, re.M))))
        status = status or ran.exit_status
    first = next(iter(outcomes), ())
    figures = {
        "files": len(files), "tests": len(first), "failed": sum(result == "not ok" for result, _ in first),
        "rounds": ROUNDS, "flaky": len(outcomes) > 1,
    }  # fmt: skip
    command = "pg_prove --verbose tests/sql/*.sql"
    yield Finding("tests/unit/pgtap_results.log", "\n".join(said), figures, command, status or int(len(outcomes) > 1))
