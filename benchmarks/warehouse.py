"""The demo year in a warehouse of a measurement's own, and the same several times over; nothing is measured here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from benchmarks.stack import KEPT_YEAR
from tidegate import dbt, wave
from tidegate.observe.logs import configure
from tidegate.publish import marts
from tidegate.run import bookings, demo
from tidegate.settings import Settings, load_settings
from tidegate.stack import lifecycle, warehouse

CHECKOUT = Path(__file__).parents[1]
#: Bytes that ten times the year takes, with two copies of it and their WAL.
ROOM = 12 << 30
_TABLES = """
SELECT pg_class.oid, nspname, relname FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace
WHERE relkind = 'r' AND nspname IN ('raw', 'core', 'marts_current') ORDER BY nspname, relname
"""
#: What follows on USING in the definitions of a table's indexes.
_INDEXES = "SELECT split_part(pg_get_indexdef(indexrelid), ' USING ', 2) FROM pg_index WHERE indrelid = %s"


@contextmanager
def of_the_year() -> Iterator[Settings]:
    """Have servers of one's own (no Airflow) with the whole year published, bookings and all; they and their folder go at the end."""
    folder = Path(tempfile.mkdtemp(prefix="tidegate-bench-")).resolve()
    folder.chmod(0o711)
    kept, home = Path(os.environ.get(KEPT_YEAR, folder)) / "year", folder / "home"
    settings = load_settings(project=CHECKOUT, home=home, airflow_url="http://127.0.0.1:9", log_level="WARNING")
    configure(settings)
    try:
        if not kept.exists():
            _take_the_year_in(lifecycle.up(settings, _quiet))
            lifecycle.down(settings, _quiet)
            home.rename(kept)
        subprocess.run(["cp", "-a", "--reflink=auto", kept, home], check=True)
        yield lifecycle.up(settings, _quiet)
    finally:
        lifecycle.down(settings, _quiet)
        shutil.rmtree(folder)


def grow(settings: Settings, times: int) -> None:
    """Make the warehouse `times` as large: each published table again, with its indexes, in the schema `bulk`.

    PostgreSQL writes them itself, and archives nothing of it: what was before a backup is of no use to it. Nobody
    vacuums from then on, so that no measurement has it beside it.
    """
    if (free := shutil.disk_usage(settings.home).free) < ROOM:
        sys.exit(f"{free >> 30} GiB are free in {settings.home}, and {ROOM >> 30} are needed: name another TMPDIR")
    with superuser(settings) as connection:
        connection.execute("ALTER SYSTEM SET autovacuum = off")
        connection.execute("ALTER SYSTEM SET archive_command = '/bin/true'")
        connection.execute("ALTER SYSTEM SET max_wal_size = '1GB'")
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("CREATE SCHEMA bulk")
        for oid, schema, name in connection.execute(_TABLES).fetchall():
            original = sql.Identifier(schema, name)
            for number in range(1, times):
                copy = sql.Identifier("bulk", f"{name[:50]}_{number}")
                connection.execute(sql.SQL("CREATE TABLE {} AS TABLE {}").format(copy, original))
                for (index,) in connection.execute(_INDEXES, [oid]).fetchall():
                    connection.execute(sql.SQL("CREATE INDEX ON {} USING " + index).format(copy))
        connection.execute("CHECKPOINT")
        connection.execute("ALTER SYSTEM RESET archive_command")
        connection.execute("SELECT pg_reload_conf()")


def superuser(settings: Settings) -> psycopg.Connection[Any]:
    """Connect to the warehouse as its server's superuser; each statement is a transaction."""
    return psycopg.connect(warehouse.reach(settings).dsn("warehouse"), autocommit=True)


def size(settings: Settings) -> int:
    """Return the bytes of all databases of the server: what a copy of its files reads, the WAL aside."""
    with superuser(settings) as connection:
        row = connection.execute("SELECT sum(pg_database_size(oid))::bigint FROM pg_database").fetchone()
    return int(row[0]) if row else 0


def _take_the_year_in(settings: Settings) -> None:
    demo.deliver(settings)
    bookings.deliver(settings, demo.MONTHS)
    for dataset in demo.WHOLE:
        wave.ingest(settings, dataset)
    for month in demo.MONTHS:
        for dataset in (*demo.MONTHLY, bookings.DATASET):
            wave.ingest(settings, dataset, month)
    for name in ("aircraft_leg", "flight_weather"):
        wave.transform(settings, name)
    build_id = marts.prepare(settings)
    dbt.build(settings, full_refresh=False)
    marts.judge(settings, build_id)
    marts.publish(settings, build_id)


def _quiet(_said: str) -> None:
    pass
