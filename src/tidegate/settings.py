"""Every knob of the platform, read once from the environment.

Order of precedence: the environment, then `.env` (yours), then `.tidegate/env` (written by `tidegate up`
with the addresses and generated passwords of the embedded servers). Code below this module cannot tell an
embedded server from an external one: it only sees an address.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Literal

from dotenv import dotenv_values
from pydantic import Field, PrivateAttr, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from tidegate.errors import UsageError
from tidegate.transport import require_tls

PREFIX = "TIDEGATE_"
#: Addresses, with their credentials, of the sources that contracts name: one for each `servers` entry.
SOURCE_URL = re.compile(r"TIDEGATE_SOURCE_([A-Z0-9_]+)_URL\Z")


def source_variable(server: str) -> str:
    """Return the name of the variable that holds the address of a contract's server."""
    return f"{PREFIX}SOURCE_{re.sub(r'[^A-Z0-9]', '_', server.upper())}_URL"


def _project_root() -> Path:
    """Return the checkout: TIDEGATE_PROJECT, or the folder above that holds `schemas/` and `dags/`."""
    named = os.environ.get("TIDEGATE_PROJECT")
    return Path(named).resolve() if named else Path(__file__).resolve().parents[2]


class Settings(BaseSettings):
    """Settings of one checkout; field NAME is read from the variable TIDEGATE_NAME."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    project: Path = Field(default_factory=_project_root, description="The checkout that holds contracts, DAGs, models.")
    home: Path = Field(
        default_factory=lambda: _project_root() / ".tidegate",
        description="Where everything that runs or is derived lives.",
    )
    inbox: Path | None = Field(
        default=None, description="Folder that `local` sources are relative to; default HOME/inbox."
    )
    landing_url: str | None = Field(
        default=None, description="Where landed Parquet goes (file://, s3://, gs://); default HOME/landing."
    )

    warehouse_url: SecretStr | None = Field(
        default=None, description="postgresql:// address of the warehouse; set it to use your own server."
    )
    pool_url: SecretStr | None = Field(
        default=None, description="postgresql:// address of the warehouse for applications, behind a pool."
    )
    replica_url: SecretStr | None = Field(
        default=None, description="postgresql:// address of a copy of the warehouse that is read only."
    )
    dump_url: SecretStr | None = Field(
        default=None, description="The same with a login of role backup, which sees every row: dumps are taken by it."
    )
    airflow_database_url: SecretStr | None = Field(
        default=None, description="postgresql:// address of Airflow's metadata database."
    )
    airflow_url: str | None = Field(default=None, description="http(s) address of Airflow's API server.")
    airflow_username: str = Field(default="admin", description="User that the CLI logs in to Airflow with.")
    airflow_password: SecretStr | None = Field(default=None, description="That user's password.")
    encryption_keys: SecretStr | None = Field(
        default=None, description="Keys of confidential columns, `k2:base64,k1:base64`; the first one seals."
    )
    spark_remote: str | None = Field(
        default=None, description="sc:// address of a Spark Connect server; default: the embedded Sail."
    )
    spark_master: str | None = Field(
        default=None,
        description="Spark master (local[2], spark://host:7077) to use instead of Spark Connect.",
    )

    redis_url: SecretStr | None = Field(
        default=None, description="redis:// or rediss:// address, or redis+sentinel://…/NAME; none is needed."
    )
    kafka_url: SecretStr | None = Field(
        default=None, description="kafka:// or kafkas:// (TLS) address of the brokers that topics are read from."
    )

    trusted_hosts: str = Field(
        default="", description="Hosts, with commas, on a network of their own, where addresses need no TLS."
    )
    postgres_bin: Path | None = Field(default=None, description="Folder with initdb and postgres; found when empty.")
    redis_memory: str = Field(
        default="64mb", pattern=r"(?i)^\d+(kb|mb|gb)$", description="Memory that the embedded Redis may keep data in."
    )
    kafka_memory: str = Field(
        default="256mb", pattern=r"(?i)^\d+(mb|gb)$", description="Heap of the embedded Kafka; 150 MB come on top."
    )
    replica_synchronous: bool = Field(
        default=False, description="Whether a commit waits until the replica has it on disk."
    )
    airflow_parallelism: int = Field(default=4, ge=1, description="Tasks that run at once.")
    duckdb_memory: str = Field(default="512MB", description="Memory that parsing one batch may use before it spills.")
    backup_tool: Literal["auto", "pg_basebackup", "pgbackrest"] = Field(
        default="auto", description="What takes backups: pgBackRest where it is installed, unless one is named."
    )
    backups_kept: int = Field(default=3, ge=1, description="Verified full backups that are kept; older ones go.")
    team_push: bool = Field(
        default=False, description="Whether what teams do may leave this machine: their branch is pushed, `gh` is run."
    )
    team_load_seconds: int = Field(
        default=15, ge=1, description="How long a team's probes put load on the rehearsal, each time that they do."
    )
    team_model_connection: str | None = Field(
        default=None,
        description="Airflow connection to a model that engineering roles of a team think with; none is needed.",
    )
    team_model_price: Decimal = Field(
        default=Decimal(25), gt=0, description="Dollars that a million tokens of that model cost at most."
    )
    log_level: str = Field(default="INFO", description="DEBUG, INFO, WARNING or ERROR.")

    _source_urls: dict[str, SecretStr] = PrivateAttr(default_factory=dict)

    def source_url(self, server: str) -> SecretStr | None:
        """Return the address in TIDEGATE_SOURCE_<SERVER>_URL, `-` and `.` of the server's name read as `_`."""
        return self._source_urls.get(source_variable(server).removeprefix(PREFIX + "SOURCE_").removesuffix("_URL"))

    @property
    def source_urls(self) -> tuple[SecretStr, ...]:
        """Every address of a source that is set."""
        return tuple(self._source_urls.values())

    @property
    def inbox_path(self) -> Path:
        """Folder that `local` sources are relative to."""
        return self.inbox or self.home / "inbox"

    @property
    def landing(self) -> str:
        """URL of the landing area, without a trailing slash."""
        return (self.landing_url or (self.home / "landing").as_uri()).rstrip("/")


def aws_variables() -> dict[str, str]:
    """Return the AWS_… lines of `.env`, by which clients find an S3 store; what the environment has is not among them."""
    found = dotenv_values(_project_root() / ".env")
    return {
        name: value for name, value in found.items() if name.startswith("AWS_") and value and name not in os.environ
    }


def variables() -> list[str]:
    """Return the name of every setting's variable."""
    return [PREFIX + field.upper() for field in Settings.model_fields]


def documented(example: str) -> list[str]:
    """Return the variables that the text of an `.env.example` tells of; a source has one by its own name, which is none of ours."""
    names = [line.removeprefix("# ").split("=")[0] for line in example.splitlines() if line.startswith(f"# {PREFIX}")]
    return [name for name in names if not SOURCE_URL.match(name)]


def _refuse_unknown(source: str, names: list[str]) -> None:
    """Refuse a TIDEGATE_ variable that no knob has: a misspelt one would be ignored in silence."""
    known = set(variables())
    for name in sorted(set(names) - known):
        if name.startswith(PREFIX) and not SOURCE_URL.match(name):
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "see .env.example for those that exist."
            raise UsageError(f"{source} sets {name}, which is no setting of tidegate: {hint}")


def load_settings(**overrides: object) -> Settings:
    """Read the environment, `.env` and `.tidegate/env` now; `overrides` name fields and win over all three.

    Raises UsageError for an unknown TIDEGATE_ variable or a value that its field refuses.
    """
    root = Path(str(overrides.get("project") or _project_root()))
    home = Path(str(overrides.get("home") or os.environ.get("TIDEGATE_HOME") or root / ".tidegate")).resolve()
    files = (home / "env", root / ".env")
    _refuse_unknown("the environment", list(os.environ))
    for file in files:
        _refuse_unknown(str(file), list(dotenv_values(file)))
    try:
        # In pydantic-settings a later file wins over an earlier one.
        values = {"project": root, "home": home, **overrides, "_env_file": files}
        settings = Settings(**values)  # type: ignore[arg-type]
    except ValidationError as invalid:
        # The offending value is not repeated: it may be a secret.
        problems = "; ".join(
            f"{PREFIX}{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in invalid.errors(include_input=False)
        )
        raise UsageError(f"a setting has a value that it cannot have: {problems}. See .env.example.") from None
    for file in files:
        settings._source_urls.update(_source_urls(dotenv_values(file)))
    settings._source_urls.update(_source_urls(os.environ))
    _require_tls(settings)
    return settings


def _require_tls(settings: Settings) -> None:
    """Refuse every address by which passwords or rows would go over a network in plain."""
    places = (
        "warehouse_url",
        "pool_url",
        "replica_url",
        "dump_url",
        "airflow_database_url",
        "airflow_url",
        "spark_remote",
        "redis_url",
        "kafka_url",
    )
    for field in places:
        if (value := getattr(settings, field)) is not None:
            url = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            require_tls(PREFIX + field.upper(), url, settings.trusted_hosts)
    for name, secret in settings._source_urls.items():
        require_tls(f"{PREFIX}SOURCE_{name}_URL", secret.get_secret_value(), settings.trusted_hosts)


def _source_urls(names: Mapping[str, str | None] | Mapping[str, str]) -> dict[str, SecretStr]:
    return {found[1]: SecretStr(value) for name, value in names.items() if value and (found := SOURCE_URL.match(name))}


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Return the settings, reading the environment on the first call only.

    Tests that change the environment call `get_settings.cache_clear()`.
    """
    return load_settings()
