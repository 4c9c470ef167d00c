"""docker-compose.yml is the platform that `tidegate up` starts: same settings, same Airflow, nothing open."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import psycopg
import pytest
import yaml
from pydantic import SecretStr
from tests.whole import eventually

from tidegate.errors import StackError, TidegateError, UsageError
from tidegate.settings import Settings, load_settings
from tidegate.stack import container, kafka_server, redis_server
from tidegate.stack.airflow_environment import airflow_environment, passwords_file
from tidegate.stack.jars import KAFKA
from tidegate.stack.port import choose
from tidegate.stack.postgres import PostgresServer
from tidegate.stores import kafka, lease, topics
from tidegate.stores.cache import Cache
from tidegate.stores.kafka import Address
from tidegate.stores.redis import Store

ROOT = Path(__file__).resolve().parents[1]
COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE_TEXT)["services"]
OF_OTHERS = {
    "POSTGRES_PASSWORD", "POSTGRES_INITDB_ARGS",  # the postgres image
    "PGHOST", "PGUSER", "PGPASSWORD",  # libpq
    "REDISCLI_AUTH",  # redis-cli
    "KAFKA_PASSWORD", "KAFKA_KEEPER_PASSWORD", "KAFKA_CONTROLLER_PASSWORD",  # the entry point of kafka
    "KAFKA_KEEPER_URL",  # tidegate.stack.container
    "AIRFLOW_CONN_SLACK_DEFAULT",  # a connection, by Airflow's own rule
}  # fmt: skip


def variables() -> dict[str, str]:
    """Return every environment variable of every service, `TIDEGATE_…` and others."""
    return {name: value for service in SERVICES.values() for name, value in service.get("environment", {}).items()}


def check_schema(file: Path) -> subprocess.CompletedProcess[str]:
    tool = Path(sys.executable).with_name("check-jsonschema")
    return subprocess.run(
        [tool, "--builtin-schema", "vendor.compose-spec", file], capture_output=True, text=True, check=False
    )


def test_the_file_is_valid_by_the_compose_schema(tmp_path: Path) -> None:
    assert check_schema(ROOT / "docker-compose.yml").returncode == 0
    broken = tmp_path / "docker-compose.yml"
    broken.write_text(COMPOSE_TEXT.replace("healthcheck:", "healthchek:", 1))
    assert check_schema(broken).returncode == 1


def test_it_names_the_services_of_the_platform() -> None:
    airflow = {"airflow-init", "api-server", "scheduler", "dag-processor", "triggerer"}
    assert set(SERVICES) == {"postgres", "redis", "kafka", "sail"} | airflow


def test_every_variable_is_a_setting_or_known_to_its_reader() -> None:
    package = importlib.util.find_spec("airflow")
    assert package is not None
    assert package.submodule_search_locations
    config = Path(package.submodule_search_locations[0]) / "config_templates/config.yml"
    sections = yaml.safe_load(config.read_text())
    options = {f"AIRFLOW__{name}__{option}".upper() for name in sections for option in sections[name]["options"]}
    settings = {f"TIDEGATE_{field.upper()}" for field in Settings.model_fields}
    assert set(variables()) - settings - options - OF_OTHERS == set()


def test_the_container_goes_before_the_embedded_tuning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__HOST", "0.0.0.0")
    settings = load_settings(project=tmp_path, home=tmp_path / "home")
    embedded, here = airflow_environment(settings), container.environment(settings)
    tuning = {name: value for name, value in embedded.items() if "__SCHEDULER__" in name or "__CORE__" in name}
    assert tuning
    assert tuning.items() <= here.items()
    assert here["AIRFLOW__API__HOST"] == "0.0.0.0"


def test_airflow_is_tuned_in_one_place() -> None:
    """What is set here besides addresses and secrets would drift from the embedded Airflow."""
    ours = {name for name in variables() if name.startswith("AIRFLOW__")}
    assert ours == {
        "AIRFLOW__API__HOST",
        "AIRFLOW__API__BASE_URL",
        "AIRFLOW__API__SECRET_KEY",
        "AIRFLOW__API_AUTH__JWT_SECRET",
        "AIRFLOW__CORE__FERNET_KEY",
    }


def test_a_container_without_addresses_says_which(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="Set TIDEGATE_WAREHOUSE_URL"):
        container.prepare(Settings(project=tmp_path, home=tmp_path))


def test_a_misspelt_container_command_is_refused() -> None:
    with pytest.raises(UsageError, match="expected init, airflow … or health COMPONENT"):
        container.main(["helth", "scheduler"])


def test_each_command_is_one_that_the_image_has() -> None:
    started = [service["command"] for service in SERVICES.values() if "command" in service]
    modules = {command[2] for command in started if command[:2] == ["python", "-m"]}
    programs = {command[0] for command in started} - {"python"}
    assert modules == {container.__name__}
    assert [name for name in programs if not Path(sys.executable).with_name(name).exists()] == []


def test_secrets_come_from_the_environment_and_have_no_default() -> None:
    secret = {name: value for name, value in variables().items() if re.search(r"PASSWORD$|_KEY$|_SECRET$", name)}
    assert len(secret) >= 5
    assert {
        name: value for name, value in secret.items() if not re.fullmatch(r"\$\{CONTAINER_\w+:\?[^}]+\}", value)
    } == {}
    for url in re.findall(r"(?:postgresql|redis|kafka)\S*://\S+", COMPOSE_TEXT):
        assert re.match(r"(?:postgresql[+\w]*|redis|kafka)://\w+:\$\{CONTAINER_\w+:\?", url), url


def test_the_example_environment_names_every_variable_it_asks_for() -> None:
    asked = set(re.findall(r"\$\{(\w+)", COMPOSE_TEXT))
    named = set(re.findall(r"^# ([A-Z][A-Z0-9_]+)=", (ROOT / ".env.example").read_text(), flags=re.MULTILINE))
    assert asked - named == set()
    assert {name for name in named if name.startswith("CONTAINER_")} - asked == set()


def test_ports_are_published_on_loopback_only() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []


def test_images_are_pinned_and_health_is_checked() -> None:
    images = {service["image"] for service in SERVICES.values()}
    images |= set(re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE))
    assert [image for image in images if not re.search(r":\d+\.\d+(\.\d+)?(-|$)", image)] == []
    assert [name for name, service in SERVICES.items() if name != "airflow-init" and "healthcheck" not in service] == []


def test_no_service_can_gain_privileges() -> None:
    for name, service in SERVICES.items():
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["cap_drop"] == ["ALL"], name


def test_redis_is_the_one_that_up_starts(tmp_path: Path) -> None:
    """Its entry point, run here: the same rules, the same settings, nobody without a password."""
    words = SERVICES["redis"]["entrypoint"]
    port = choose(31000, tmp_path, set())
    script = words[2].replace("$$", "$").replace("/run/redis", str(tmp_path)).replace("/data", str(tmp_path))
    environment = {**os.environ, "REDISCLI_AUTH": "canary"}
    command = [*words[:2], script.replace("--port 6379", f"--port {port} --bind 127.0.0.1")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as server:
        try:
            with Store(f"redis://tidegate:canary@127.0.0.1:{port}/0", retries=20) as store:
                assert lease.take(store, "it", "me").token == 1
                assert Cache(store, "marts", "analyst", 60).get("k", lambda: 1) == 1
            with Store(f"redis://127.0.0.1:{port}/0") as store, pytest.raises(StackError), store.reached() as nobody:
                nobody.ping()
            assert "canary" not in " ".join(psutil.Process(server.pid).cmdline())
        finally:
            server.terminate()
    rules = (tmp_path / "users.acl").read_text()
    assert f"user default {redis_server.USERS['default']}\n" in rules
    assert rules.rstrip().endswith(redis_server.USERS["tidegate"])
    said = dict(re.findall(r"--([\w-]+) ('[^']*'|\S+)", words[2]))
    shared = set(said) & set(redis_server.SETTINGS)
    assert len(shared) == 6
    assert {name: said[name].strip("'") for name in shared} == {name: redis_server.SETTINGS[name] for name in shared}
    assert said["maxmemory"] == Settings.model_fields["redis_memory"].default


def test_kafka_is_the_one_that_up_starts(kafka_programs: Path, tmp_path: Path) -> None:
    """Its entry point, run here twice: the same settings, the same rules, nobody without a password."""
    words = SERVICES["kafka"]["entrypoint"]
    (tmp_path / "data").mkdir()
    ours = choose(32000, tmp_path, set())
    controllers = choose(33000, tmp_path, {ours})
    script = words[2].replace("$$", "$")
    for there, here in {
        "/run/kafka": str(tmp_path), "/var/lib/kafka": str(tmp_path), "/opt/kafka/libs": str(kafka_programs),
        "CLIENTS://:9092": f"CLIENTS://127.0.0.1:{ours}", "//kafka:9092": f"//127.0.0.1:{ours}", ":9093": f":{controllers}",
    }.items():  # fmt: skip
        assert there in script
        script = script.replace(there, here)
    passwords = {f"KAFKA_{name}PASSWORD": f"canary-{name.lower()}" for name in ("", "KEEPER_", "CONTROLLER_")}
    url = f"kafka://tidegate:canary-@127.0.0.1:{ours}"
    keeper = Address.of(url.replace("tidegate:canary-", "keeper:canary-keeper_"))
    for round_ in (1, 2):
        with subprocess.Popen([*words[:2], script], env={**os.environ, **passwords}, stdout=subprocess.PIPE) as server:
            try:
                eventually(lambda: answers_to(keeper))
                kafka_server.grant(keeper)
                settings = Settings(project=tmp_path, home=tmp_path, kafka_url=SecretStr(url))
                if round_ == 1:
                    topics.create(settings, "t")
                assert [topic.name for topic in topics.listed(settings)] == ["t"]
                with pytest.raises(StackError):
                    topics.listed(settings.model_copy(update={"kafka_url": SecretStr(url.replace("canary", "guess"))}))
                process = psutil.Process(server.pid)
                assert "canary" not in " ".join([*process.cmdline(), *process.environ().values()])
            finally:
                server.terminate()
    said = dict(line.split("=", 1) for line in (tmp_path / "server.properties").read_text().splitlines())
    assert {name: said.get(name) for name in kafka_server.SETTINGS} == kafka_server.SETTINGS
    assert f"-Xmx{Settings.model_fields['kafka_memory'].default.removesuffix('b')} " in words[2]
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{KAFKA.version}"
    assert not (tmp_path / "format.args").exists()


def answers_to(keeper: Address) -> bool:
    try:
        kafka.admin(keeper, patience=0.5).close()
    except TidegateError:
        return False
    return True


def test_the_image_s_commands_bring_up_airflow(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What docker-compose.yml has its containers do, done without them: init twice, then the API server."""
    administrator = urlsplit(postgres.dsn())
    monkeypatch.setenv("PGHOST", administrator.hostname or "")
    monkeypatch.setenv("PGPORT", str(administrator.port))
    monkeypatch.setenv("PGUSER", administrator.username or "")
    monkeypatch.setenv("PGPASSWORD", administrator.password or "")
    warehouse = postgres.dsn("contained", "contained", "berth-2c7f%2Fquay-9d01-stern")
    airflow_port = choose(30000, tmp_path, set())
    url = f"http://127.0.0.1:{airflow_port}"
    monkeypatch.setenv("TIDEGATE_HOME", str(tmp_path))
    monkeypatch.setenv("TIDEGATE_WAREHOUSE_URL", warehouse)
    monkeypatch.setenv(
        "TIDEGATE_AIRFLOW_DATABASE_URL", postgres.dsn("contained_af", "contained_af", "berth-8a44-quay-51d0-stern")
    )
    monkeypatch.setenv("TIDEGATE_AIRFLOW_URL", url)
    monkeypatch.setenv("TIDEGATE_AIRFLOW_PASSWORD", "let-me-in")

    assert container.main(["init"]) == 0
    assert container.main(["init"]) == 0, "a restarted compose runs it again"
    with psycopg.connect(warehouse) as connection:
        assert connection.execute("SELECT count(*) FROM ops.batch").fetchone() == (0,)
    passwords = passwords_file(load_settings())
    assert passwords.stat().st_mode & 0o077 == 0

    server = subprocess.Popen(
        [sys.executable, "-m", container.__name__, "airflow", "api-server"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not answers(url):
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert container.main(["health", "metadatabase"]) == 0
        assert container.main(["health", "scheduler"]) == 1, "none runs"
        log_in = {"username": "admin", "password": "let-me-in"}
        assert httpx.post(f"{url}/auth/token", json=log_in).status_code == 201
        assert httpx.post(f"{url}/auth/token", json=log_in | {"password": "x"}).status_code == 401
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def answers(url: str) -> bool:
    try:
        return container.is_healthy(url, "metadatabase")
    except OSError:
        return False
