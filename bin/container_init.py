"""What must be true before the containers' servers start: databases, migrations, the first user's password.

The same functions as `tidegate up` uses; calling it again changes nothing. The administrator's connection
comes from PGHOST, PGUSER and PGPASSWORD, everything else from the settings.
"""

from __future__ import annotations

import json
import os
from urllib.parse import unquote, urlsplit

import psycopg

from tidegate.settings import Settings, get_settings
from tidegate.stack import airflow
from tidegate.stack.airflow_environment import passwords_file
from tidegate.stack.home import write_private
from tidegate.stack.postgres_databases import ensure_database, ensure_role
from tidegate.stores import migrate


def main() -> None:
    """Do all of it, in order."""
    settings = get_settings()
    urls = [url.get_secret_value() for url in (settings.warehouse_url, settings.airflow_database_url) if url]
    make_databases(urls)
    migrate.upgrade(urls[0], settings.project)
    write_passwords(settings)
    airflow.migrate(dict(os.environ))


def make_databases(urls: list[str]) -> None:
    """Make each database exist, owned by the user that its address names."""
    with psycopg.connect(dbname="postgres", autocommit=True) as connection:
        for url in urls:
            address = urlsplit(url)
            owner, database = unquote(address.username or ""), address.path.removeprefix("/")
            ensure_role(connection, owner, unquote(address.password or ""))
            ensure_database(connection, database, owner)


def write_passwords(settings: Settings) -> None:
    """Write the file that Airflow's log-in reads."""
    password = settings.airflow_password.get_secret_value() if settings.airflow_password else ""
    file = passwords_file(settings)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(file, json.dumps({settings.airflow_username: password}) + "\n")


if __name__ == "__main__":
    main()
