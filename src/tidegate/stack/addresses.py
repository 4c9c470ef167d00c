"""Where the servers answer: the file `.tidegate/env`, and which addresses somebody else has set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dotenv import dotenv_values
from pydantic import SecretStr

from tidegate.settings import PREFIX, Settings
from tidegate.stack.home import write_private

KNOBS = (
    "warehouse_url", "pool_url", "replica_url", "airflow_database_url", "airflow_url", "airflow_password", "spark_remote", "encryption_keys",
    "redis_url", "kafka_url",
)  # fmt: skip


def plain(value: object) -> str | None:
    """Return a setting as text, a secret unwrapped."""
    if value is None:
        return None
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def external(settings: Settings) -> frozenset[str]:
    """Return the address knobs that somebody else has set: their value is not the one that `up` wrote."""
    written = dotenv_values(settings.home / "env")
    return frozenset(
        knob for knob in KNOBS if plain(getattr(settings, knob)) not in (None, written.get(PREFIX + knob.upper()))
    )


def write(home: Path, ours: Mapping[str, str]) -> None:
    """Write the embedded servers' addresses and passwords into `.tidegate/env`, mode 0600, in one step."""
    head = "# Written by `tidegate up`: the embedded servers. Your own addresses belong into .env.\n"
    lines = [f"{PREFIX}{knob.upper()}={value}\n" for knob, value in ours.items()]
    write_private(home / "env", head + "".join(lines))


def fill(settings: Settings, ours: Mapping[str, str]) -> Settings:
    """Return the settings with these addresses in their places, secrets wrapped."""
    secret = {knob for knob in ours if "SecretStr" in str(Settings.model_fields[knob].annotation)}
    return settings.model_copy(
        update={knob: SecretStr(value) if knob in secret else value for knob, value in ours.items()}
    )
