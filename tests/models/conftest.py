"""Two months of the real year, published in a warehouse of its own, and the models built over them once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr
from tests.conftest import CHECKOUT, OWNER, PASSWORD, TEMPLATE
from tests.models import sample

from tidegate import dbt
from tidegate.settings import Settings, load_settings
from tidegate.stack.postgres import PostgresServer
from tidegate.stack.postgres_databases import ensure_database

BUILT, SCRATCH = "models_built", "models_scratch"


@dataclass(frozen=True)
class Build:
    """The warehouse that `dbt build`, typed at the root, has left behind."""

    settings: Settings
    output: str
    status: int

    @property
    def target(self) -> Path:
        """Folder of dbt's artifacts."""
        return self.settings.home / "dbt" / "target"


@pytest.fixture(scope="session")
def demo_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample.unpack(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="session")
def built(postgres: PostgresServer, demo_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The models over two months, built as a user would; to be read only."""
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        ensure_database(connection, BUILT, OWNER, TEMPLATE)
    settings = _settings(postgres.dsn(BUILT, OWNER, PASSWORD), tmp_path_factory.mktemp("home"))
    with psycopg.connect(postgres.dsn(BUILT, OWNER, PASSWORD)) as connection:
        sample.load_sample(connection, settings, demo_files)
    variables = dbt.environment(settings)
    del variables["DBT_PROJECT_DIR"], variables["DBT_PROFILES_DIR"]
    run = subprocess.run(
        [Path(sys.executable).with_name("dbt"), "--no-use-colors", "build"],
        cwd=CHECKOUT,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    return Build(settings, run.stdout + run.stderr, run.returncode)


@pytest.fixture
def built_warehouse(built: Build) -> Iterator[psycopg.Connection]:
    """A connection to the built warehouse."""
    assert built.settings.warehouse_url is not None
    with psycopg.connect(built.settings.warehouse_url.get_secret_value()) as connection:
        connection.read_only = True
        yield connection


@pytest.fixture
def scratch(postgres: PostgresServer, built: Build) -> Iterator[Settings]:
    """A copy of the built warehouse to change at will.

    Always of the same name: dbt parses the whole project anew when its profile changes.
    """
    with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
        ensure_database(connection, SCRATCH, OWNER, BUILT)
        yield _settings(postgres.dsn(SCRATCH, OWNER, PASSWORD), built.settings.home.with_name("scratch_home"))
        connection.execute(f"drop database {SCRATCH} with (force)")


def _settings(url: str, home: Path) -> Settings:
    return load_settings(project=CHECKOUT, home=home, warehouse_url=SecretStr(url))
