"""What every test may ask for: a real PostgreSQL, started once, and a fresh warehouse in it for each test.

The server is the one that `tidegate up` starts, by the same code, but without waiting for the disk.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from psycopg import sql
from tests.kafka_servers import kafka, kafka_programs, own_kafka, shared_kafka, topic
from tests.postgres_servers import FAST_AND_LOSSY, running
from tests.whole import whole
from xdist.scheduler import LoadScopeScheduling

from tidegate.migrate import door
from tidegate.sealing.keys import Keyring, generate
from tidegate.settings import Settings, get_settings, load_settings
from tidegate.stack import scram
from tidegate.stack.postgres import SUPERUSER, PostgresServer
from tidegate.stack.postgres_databases import ensure_database, ensure_role, ensure_roles

__all__ = ["kafka", "kafka_programs", "own_kafka", "shared_kafka", "topic", "whole"]

CHECKOUT = Path(__file__).resolve().parents[1]
OWNER, PASSWORD, TEMPLATE = "tidegate", "keel-4f1c-anchor-9b27-mooring", "warehouse_template"
#: Bytes of free memory from which files of the tests' servers lie there: all together take 6.5 GiB, measured over a whole run.
PLENTY = 12 << 30
#: Of confidential columns.
KEYS = str(Keyring((generate("k1"),)))
#: Folders whose tests share what costs much: models built over two months, a Spark server, a warehouse with a replica.
SHARED = ("models", "transforms", "availability", "backup")
#: Files whose tests share the whole stack. The year is the first of them: it wants one in which nothing has happened yet.
WHOLE = (
    "journeys/test_year.py", "journeys/test_streamed.py", "access/test_canary.py", "observe/test_logs.py",
    "stack/test_whole_stack.py",
)  # fmt: skip
#: What takes longest, so that no worker is left alone with it.
FIRST = (
    "journeys/test_team.py", "whole", "journeys/test_killed_anywhere.py", "delivery/test_sabotage.py", "evidence/test_probes.py", "models", "availability",
    "stream/test_killed_stream.py", "stack/test_kafka.py",
    "backup", "transforms", "stack/test_postgres_recovery.py", "rehearsal/test_rehearsal.py",
    "publish/test_partitions.py", "publish/test_batches.py", "publish/test_marts_of_flights.py", "migrate/test_locks.py",
    "stack/test_roles.py",
)  # fmt: skip


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0].removeprefix("tests/")


def _unit(nodeid: str) -> str:
    """What one worker takes whole: a file, or files that share much."""
    file = _file(nodeid)
    folder = file.partition("/")[0]
    if file in WHOLE:
        return "whole"
    return folder if folder in SHARED else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Give the workers units in the order of the tests; xdist would begin with the units of most tests, not the longest."""

    class Together(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return _unit(nodeid)

    config.option.loadscopereorder = False
    return Together(config, log)


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the whole stack, and put it last: it shares the machine with nothing but another stack."""
    for item in items:
        if "whole" in getattr(item, "fixturenames", ()):
            item.add_marker("whole")
            if _unit(item.nodeid) != "whole":
                raise pytest.UsageError(
                    f"{item.nodeid} asks for the whole stack: WHOLE in tests/conftest.py has to name its file"
                )
    rank = {unit: number for number, unit in enumerate(FIRST)}

    def place(item: pytest.Item) -> tuple[bool, int, int]:
        unit = _unit(item.nodeid)
        within = WHOLE.index(_file(item.nodeid)) if unit == "whole" else 0
        return item.get_closest_marker("whole") is not None, rank.get(unit, len(FIRST)), within

    items.sort(key=place)


@pytest.fixture(scope="session", autouse=True)
def _clean_environment() -> Iterator[None]:
    """Hide the developer's own stack: no variable of tidegate, Airflow or libpq gets through."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(("TIDEGATE_", "AIRFLOW_", "PG", "SPARK_", "DBT_")):
                patch.delenv(name)
        yield


@pytest.fixture(autouse=True)
def _fresh_settings() -> Iterator[None]:
    """Let each test read the environment anew."""
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.fixture(scope="session")
def reachable_folder() -> Iterator[Path]:
    """A folder that PostgreSQL's own user can enter too; pytest's are closed to it when root runs them.

    In memory, where there is plenty: a test's database is hundreds of files, made and dropped in 30 ms of CPU there and in
    80 to 250 on a disk.
    """
    memory = Path("/dev/shm")
    plenty = memory.is_dir() and min(shutil.disk_usage(memory).free, psutil.virtual_memory().available) > PLENTY
    folder = Path(tempfile.mkdtemp(prefix="tidegate-test-", dir=memory if plenty else None)).resolve()
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres(reachable_folder: Path) -> Iterator[PostgresServer]:
    """The test run's server, with an empty but migrated database to copy from."""
    with running(reachable_folder / "postgres", 20000, FAST_AND_LOSSY) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            ensure_role(connection, OWNER, PASSWORD)
            # Stretched once instead of 4096 times: 3 ms less of CPU for each connection.
            for role, password in ((OWNER, PASSWORD), (SUPERUSER, server.password)):
                kept = sql.Literal(scram.verifier(password, iterations=1))
                connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), kept))
            ensure_roles(connection, CHECKOUT, OWNER)
            ensure_database(connection, TEMPLATE, OWNER)
        door.upgrade(server.dsn(TEMPLATE, OWNER, PASSWORD), CHECKOUT)
        yield server


@pytest.fixture
def warehouse(postgres: PostgresServer) -> Iterator[str]:
    """Address of a fresh migrated database, owned by an ordinary user; dropped afterwards."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        ensure_database(connection, name, OWNER, TEMPLATE)
        yield postgres.dsn(name, OWNER, PASSWORD)
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def settings(warehouse: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings with a home and a warehouse of their own; `get_settings()` and subprocesses agree."""
    monkeypatch.setenv("TIDEGATE_PROJECT", str(CHECKOUT))
    monkeypatch.setenv("TIDEGATE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TIDEGATE_WAREHOUSE_URL", warehouse)
    monkeypatch.setenv("TIDEGATE_ENCRYPTION_KEYS", KEYS)
    return load_settings()
