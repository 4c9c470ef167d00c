"""Airflow's whole configuration as environment variables: one function for servers, shells and tests.

There is no airflow.cfg to drift: what is not said here is Airflow's default.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, urlencode, urlsplit

from dotenv import dotenv_values

from tidegate.settings import Settings
from tidegate.stack.secret import Secrets


def airflow_environment(settings: Settings) -> dict[str, str]:
    """Return the variables that make any `airflow …` command, server or DAG test belong to this checkout.

    Secrets are generated when they do not exist yet. Without an Airflow database (the stack was never up),
    Airflow falls back to a SQLite file in its own folder, which is enough to parse DAGs.
    """
    secrets = Secrets.load(settings.home)
    home = settings.home / "airflow"
    return {
        "AIRFLOW_HOME": str(home),
        "TIDEGATE_HOME": str(settings.home),
        "TIDEGATE_PROJECT": str(settings.project),
        # dags/ wires; transforms/ is code that tasks import.
        "PYTHONPATH": os.pathsep.join(
            dict.fromkeys([str(settings.project), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))])
        ),
        "PATH": os.pathsep.join(
            dict.fromkeys([str(Path(sys.executable).parent), *os.environ.get("PATH", "").split(os.pathsep)])
        ),
        **_section("core", _core(settings)),
        **_section("database", _database(settings)),
        **_authority(settings),
        **_section("api", _api(settings, secrets)),
        **_section("api_auth", {"jwt_secret": secrets.airflow_jwt_secret}),
        **_section("logging", _logging(settings, home)),
        **_section("scheduler", _SCHEDULER),
        **_section("dag_processor", {**_DAG_PROCESSOR, "dag_bundle_storage_path": str(home / "bundles")}),
        **_section("triggerer", {"job_heartbeat_sec": "5"}),
        **_section("workers", _WORKERS),
        # Cosmos' own default is one folder of /tmp for all checkouts of this machine.
        **_section("cosmos", {"cache_dir": str(home / "cosmos")}),
        "AIRFLOW__CORE__FERNET_KEY": secrets.airflow_fernet_key,
        # Nobody outside this machine hears of it.
        "SCARF_ANALYTICS": "false",
        "DO_NOT_TRACK": "1",
        "GX_ANALYTICS_ENABLED": "false",
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        **_from_dotenv(settings.project / ".env"),
    }


def passwords_file(settings: Settings) -> Path:
    """Return the file that SimpleAuthManager reads the users' passwords from."""
    return settings.home / "airflow" / "passwords.json"


def passwords(settings: Settings) -> str:
    """Return that file's text: the password of the settings, else the generated one."""
    own = settings.airflow_password
    password = own.get_secret_value() if own else Secrets.load(settings.home).airflow_admin_password
    return json.dumps({settings.airflow_username: password}) + "\n"


def _section(name: str, options: dict[str, str]) -> dict[str, str]:
    return {f"AIRFLOW__{name.upper()}__{option.upper()}": value for option, value in options.items()}


def _core(settings: Settings) -> dict[str, str]:
    return {
        "dags_folder": str(settings.project / "dags"),
        "executor": "tidegate.stack.warm_executor.WarmLocalExecutor",
        # The supervisor of each task is a fork of the scheduler: on this size a few are plenty, 32 are 5 GB.
        "parallelism": str(settings.airflow_parallelism),
        "max_active_tasks_per_dag": str(settings.airflow_parallelism),
        # Forking is what lets a task inherit the imports of the executor.
        "mp_start_method": "fork",
        "execute_tasks_new_python_interpreter": "False",
        "load_examples": "False",
        "dags_are_paused_at_creation": "False",
        "min_serialized_dag_update_interval": "2",
        "test_connection": "Disabled",
        "simple_auth_manager_users": f"{settings.airflow_username}:admin",
        "simple_auth_manager_passwords_file": str(passwords_file(settings)),
        "execution_api_server_url": f"{settings.airflow_url or 'http://127.0.0.1:8080'}/execution/",
        "default_timezone": "utc",
    }


def _database(settings: Settings) -> dict[str, str]:
    ours = {"load_default_connections": "False"}
    if settings.airflow_database_url is None:
        return ours
    address = urlsplit(settings.airflow_database_url.get_secret_value())
    return ours | {
        "sql_alchemy_conn": address._replace(scheme="postgresql+psycopg2").geturl(),
        "sql_alchemy_conn_async": _for_asyncpg(address),
        # `tidegate up` migrates when the version has changed; each server need not look again.
        "check_migrations": "False",
    }


def _for_asyncpg(address: SplitResult) -> str:
    """Return the address as asyncpg reads it: it knows libpq's modes of TLS as `ssl`, and none of libpq's other options."""
    mode = parse_qs(address.query).get("sslmode", [])
    query = urlencode({"ssl": mode[-1]}) if mode else ""
    return address._replace(scheme="postgresql+asyncpg", query=query).geturl()


def _authority(settings: Settings) -> dict[str, str]:
    """Return the variable by which asyncpg finds the certificate of an authority of one's own."""
    url = settings.airflow_database_url.get_secret_value() if settings.airflow_database_url else ""
    found = parse_qs(urlsplit(url).query).get("sslrootcert", [])
    return {"PGSSLROOTCERT": found[-1]} if found else {}


def _api(settings: Settings, secrets: Secrets) -> dict[str, str]:
    address = urlsplit(settings.airflow_url or "http://127.0.0.1:8080")
    return {
        "host": address.hostname or "127.0.0.1",
        "port": str(address.port or 8080),
        "base_url": address.geturl(),
        "workers": "1",
        "secret_key": secrets.airflow_api_secret,
        "instance_name": "tidegate",
        "expose_config": "False",
    }


def _logging(settings: Settings, home: Path) -> dict[str, str]:
    return {
        "base_log_folder": str(home / "logs"),
        "dag_processor_child_process_log_directory": str(home / "logs" / "dag_processor"),
        "logging_level": settings.log_level,
        # These write addresses, which hold credentials, into logs that nobody masks.
        "namespace_levels": "slack_sdk=WARNING httpx=WARNING httpcore=WARNING urllib3=INFO",
        "colored_console_log": "False",
        # Logs name people's rows: readable by this user alone.
        "file_task_handler_new_folder_permissions": "0o700",
        "file_task_handler_new_file_permissions": "0o600",
    }


_SCHEDULER = {
    # A task's successor is scheduled in the next loop: at the default of 1 s ten tasks wait 10 s.
    "scheduler_idle_sleep_time": "0.2",
    "catchup_by_default": "False",
    # A task killed with its scheduler is noticed within a minute instead of five.
    "task_instance_heartbeat_timeout": "60",
    "orphaned_tasks_check_interval": "30",
    "trigger_timeout_check_interval": "5",
    "create_cron_data_intervals": "True",
    "create_delta_data_intervals": "True",
}

_WORKERS = {
    # A supervisor sleeps this long when its task closes its sockets an instant before it ends: at the default of
    # 5 s, a worker that has nothing to do is missing for 5 s after many a task.
    "min_heartbeat_interval": "1",
}

_DAG_PROCESSOR = {
    "refresh_interval": "5",
    "bundle_refresh_check_interval": "2",
    # What has changed is read at once; this is for DAGs that depend on other files, as on contracts.
    "min_file_process_interval": "30",
    "print_stats_interval": "0",
}


def _from_dotenv(file: Path) -> dict[str, str]:
    """Return the connections, variables and options for Airflow that the user wrote into `.env`, and how S3 is reached."""
    return {
        name: value for name, value in dotenv_values(file).items() if name.startswith(("AIRFLOW_", "AWS_")) and value
    }
