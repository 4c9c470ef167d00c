"""Whatever state PostgreSQL was left in, `up` recovers it, loses nothing, and says so."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import psycopg
import pytest
from tests.conftest import PASSWORD
from tests.whole import CHECKOUT, Stack

from tidegate.errors import StackError
from tidegate.settings import Settings
from tidegate.stack import postgres_binaries, warehouse
from tidegate.stack.secret import Secrets


def address(settings: Settings) -> str:
    assert settings.warehouse_url is not None
    return settings.warehouse_url.get_secret_value()


def write_row(settings: Settings) -> None:
    with psycopg.connect(address(settings)) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")


def read_row(settings: Settings) -> object:
    with psycopg.connect(address(settings)) as connection:
        return connection.execute("SELECT answer FROM kept").fetchone()


def test_a_second_up_changes_nothing(stack: Stack) -> None:
    stack.up()
    pid = stack.postgres_pid
    stack.up()
    assert "already running" in stack.said
    assert stack.postgres_pid == pid


def test_data_and_address_outlive_down_and_up(stack: Stack) -> None:
    before = stack.up()
    write_row(before)
    stack.down()
    assert stack.status().services["postgres"].state == "stopped"
    after = stack.up()
    assert (address(after), read_row(after)) == (address(before), (42,))


def test_a_server_killed_with_9_is_started_again(stack: Stack) -> None:
    write_row(stack.up())
    killed = stack.postgres_pid
    leader = psutil.Process(killed)
    os.kill(killed, signal.SIGKILL)
    psutil.wait_procs([leader], timeout=30)
    assert stack.status().services["postgres"].state == "dead"
    after = stack.up()
    assert "stale pid file" in stack.said
    assert stack.postgres_pid != killed
    assert read_row(after) == (42,)


def test_a_pid_file_that_names_a_stranger_is_moved_aside_and_the_stranger_left_alone(stack: Stack) -> None:
    stack.up()
    pid_file = stack.home / "postgres" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    stack.down()
    with subprocess.Popen(["sleep", "60"]) as stranger:
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        stack.up()
        assert "stale pid file" in stack.said
        assert stranger.poll() is None
        stranger.kill()


def test_a_port_taken_meanwhile_is_given_up(stack: Stack) -> None:
    stack.up()
    stack.down()
    old = psycopg.conninfo.conninfo_to_dict(address(stack.settings))["port"]
    with socket.create_server(("127.0.0.1", int(str(old)))):
        after = stack.up()
        assert f"port {old} is taken" in stack.said
        assert f":{old}/" not in address(after)
        with psycopg.connect(address(after)) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("left", ["postgres", "postgres.making-x1"])
def test_a_half_made_data_directory_is_archived_and_made_anew(stack: Stack, left: str) -> None:
    (stack.home / left).mkdir(parents=True)
    (stack.home / left / "half").write_text("made")
    stack.up()
    assert "interrupted `initdb`" in stack.said
    assert [found.read_text() for found in (stack.home / "archive").glob(f"{left}-*/half")] == ["made"]


def test_an_up_killed_during_initdb_can_be_run_again(stack: Stack) -> None:
    environment = {
        **os.environ,
        "TIDEGATE_HOME": str(stack.home),
        **{f"TIDEGATE_{name.upper()}": value for name, value in stack.elsewhere.items()},
    }
    with subprocess.Popen(
        [Path(sys.executable).with_name("tidegate"), "up"],
        env=environment,
        cwd=CHECKOUT,
        stdout=subprocess.DEVNULL,
    ) as first:
        while not list(stack.home.glob("postgres.making-*/cluster/*")):
            assert first.poll() is None
            time.sleep(0.005)
        first.kill()
    stack.up()
    assert "interrupted `initdb`" in stack.said
    assert stack.status().services["postgres"].state == "running"


def test_after_a_restart_of_the_machine_a_remembered_pid_is_never_touched(stack: Stack) -> None:
    stack.up()
    memory = stack.home / "stack.json"
    pid = stack.postgres_pid
    leader = psutil.Process(pid)
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([leader], timeout=30)
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger:
        memory.write_text(memory.read_text().replace(f'"pid": {pid}', f'"pid": {stranger.pid}'))
        stack.up()
        stack.down()
        assert stranger.poll() is None
        stranger.kill()


def test_two_checkouts_side_by_side_do_not_disturb_each_other(stacks: list[Stack]) -> None:
    one, other = stacks
    assert address(one.up()) != address(other.up())
    one.down()
    assert one.status().services["postgres"].state == "stopped"
    assert other.status().services["postgres"].state == "running"


def test_a_copied_home_does_not_take_the_original_for_its_own(stacks: list[Stack]) -> None:
    one, other = stacks
    one.up()
    other.home.mkdir()
    for name in ("stack.json", "secrets.json"):
        shutil.copy(one.home / name, other.home / name)
    other.down()
    assert one.status().services["postgres"].state == "running"


def test_generated_secrets_are_for_their_owner_alone_and_stay_the_same(stack: Stack) -> None:
    stack.up()
    first = Secrets.load(stack.home)
    modes = {name: (stack.home / name).stat().st_mode & 0o777 for name in ("secrets.json", "env", "stack.json")}
    assert modes == dict.fromkeys(modes, 0o600)
    (stack.home / "secrets.json").chmod(0o644)
    assert Secrets.load(stack.home) == first
    assert (stack.home / "secrets.json").stat().st_mode & 0o777 == 0o600


def test_lost_passwords_are_generated_and_set_anew(stack: Stack) -> None:
    write_row(stack.up())
    (stack.home / "secrets.json").rename(stack.home / "lost.json")
    after = stack.up()
    assert "another password" in stack.said
    assert read_row(after) == (42,)


def test_no_secret_is_seen_in_arguments_or_logs(stack: Stack) -> None:
    stack.up()
    secrets = Secrets.load(stack.home)
    words = " ".join(psutil.Process(stack.postgres_pid).cmdline())
    log = (stack.home / "logs" / "postgres.log").read_text()
    for secret in (secrets.postgres_password, secrets.warehouse_password, secrets.airflow_database_password):
        assert secret not in words + log + stack.said + repr(secrets)


def test_nobody_enters_without_a_password_nor_the_other_database(stack: Stack) -> None:
    settings = stack.up()
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(address(settings).replace(Secrets.load(stack.home).warehouse_password, ""))
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        psycopg.connect(address(settings).replace("/warehouse", "/postgres"))


def test_data_go_where_the_servers_user_can_reach_them(
    stack: Stack, reachable_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warehouse, "SYSTEM_FOLDER", reachable_folder / "system")
    stack.home.parent.chmod(0o700)
    write_row(stack.up())
    place = stack.home / "postgres"
    if postgres_binaries.account() is None:
        assert not place.is_symlink()
    else:
        assert place.readlink().is_relative_to(reachable_folder / "system")
        assert "cannot enter" in stack.said
    stack.down()
    assert read_row(stack.up()) == (42,)


def test_a_machine_without_postgresql_is_told_what_to_type(stack: Stack, tmp_path: Path) -> None:
    stack.elsewhere["postgres_bin"] = str(tmp_path)
    with pytest.raises(StackError, match=r"no PostgreSQL .* which TIDEGATE_POSTGRES_BIN names"):
        stack.up()
    with pytest.raises(StackError, match=r"PostgreSQL 99 .*Type: .*install"):
        postgres_binaries.find(major=99)


def test_an_external_warehouse_is_used_and_nothing_is_started(stack: Stack, warehouse: str) -> None:
    stack.elsewhere["warehouse_url"] = warehouse
    assert address(stack.up()) == warehouse
    status = stack.status()
    assert {service.state for service in status.services.values()} == {"external"}
    assert not (stack.home / "postgres").exists()
    assert status.warehouse_dsn is not None
    assert PASSWORD not in str(status)
