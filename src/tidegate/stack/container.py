"""What a container runs: `python -m tidegate.stack.container init | airflow … | health COMPONENT`.

Every server has an address from outside here, so nothing is started but the process that a container is for.
Airflow's options are those of the embedded one; what the container's environment says goes first.
"""

from __future__ import annotations

import json
import os
import sys
from urllib.parse import unquote, urlsplit

from tidegate.errors import StackError, TidegateError, UsageError
from tidegate.settings import Settings, get_settings
from tidegate.stack import airflow, kafka_server, manifest
from tidegate.stack.airflow_environment import airflow_environment, passwords_file
from tidegate.stack.home import write_private
from tidegate.stores.kafka import Address


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment of every Airflow process of a container."""
    return {**airflow_environment(settings), **os.environ}


def prepare(settings: Settings) -> None:
    """Make true what the servers expect: databases with owners, migrations, the first user's password.

    The administrators' connections come from PGHOST, PGUSER and PGPASSWORD, and KAFKA_KEEPER_URL. Calling it again changes
    nothing.
    Raises StackError when an address or the password is not set.
    """
    from tidegate.migrate import door

    given = (settings.warehouse_url, settings.airflow_database_url, settings.airflow_password)
    if None in given:
        raise StackError(
            "a container needs the addresses of its servers. Set TIDEGATE_WAREHOUSE_URL, "
            "TIDEGATE_AIRFLOW_DATABASE_URL and TIDEGATE_AIRFLOW_PASSWORD, as docker-compose.yml does."
        )
    warehouse, database, password = (value.get_secret_value() for value in given if value)
    _make_databases(settings, warehouse, database)
    door.upgrade(warehouse, settings.project)
    if keeper := os.environ.get("KAFKA_KEEPER_URL"):
        kafka_server.grant(Address.of(keeper))
    file = passwords_file(settings)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(file, json.dumps({settings.airflow_username: password}) + "\n")
    with manifest.renewed(settings):
        airflow.migrate(environment(settings))


def is_healthy(url: str, component: str) -> bool:
    """Return whether the API server at `url` calls the component (metadatabase, scheduler, …) healthy.

    Raises OSError when the server does not answer.
    """
    return airflow.health(url, patience=5).get(component, {}).get("status") == "healthy"


def main(words: list[str]) -> int:
    """Do what the words say and return the exit status; after `airflow …` this process is Airflow's."""
    settings = get_settings()
    match words:
        case ["init"]:
            prepare(settings)
        case ["health", component]:
            return not is_healthy(settings.airflow_url or "", component)
        case ["airflow", *rest]:
            command = [sys.executable, "-m", "airflow", *rest]
            os.execve(command[0], command, environment(settings))  # noqa: S606 - no shell is wanted
        case _:
            raise UsageError(f"found {' '.join(words)!r}, expected init, airflow … or health COMPONENT.")
    return 0


def _make_databases(settings: Settings, warehouse: str, airflow_database: str) -> None:
    import psycopg

    from tidegate.stack.postgres_databases import ensure_database, ensure_role, ensure_roles

    with psycopg.connect(dbname="postgres", autocommit=True) as connection:
        for url in (warehouse, airflow_database):
            address = urlsplit(url)
            owner = unquote(address.username or "")
            ensure_role(connection, owner, unquote(address.password or ""))
            ensure_database(connection, address.path.removeprefix("/"), owner)
        ensure_roles(connection, settings.project, unquote(urlsplit(warehouse).username or ""))


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except TidegateError as error:
        sys.exit(f"tidegate: {error}")
