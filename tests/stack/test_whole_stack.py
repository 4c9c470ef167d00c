"""All servers at once, started one time: Airflow answers, and comes back, whatever was killed."""

import os
import signal
import time
from contextlib import suppress

import httpx
import psutil
from tests.whole import Stack, eventually, secrets_of

from tidegate.stack import airflow
from tidegate.stack.airflow import COMPONENTS
from tidegate.stack.memory import Memory


def test_every_server_runs_and_is_named_with_its_version(whole: Stack) -> None:
    services = whole.status().services
    assert {name: service.state for name, service in services.items()} == dict.fromkeys(services, "running")
    assert all(service.version and service.pid for service in services.values())


def test_a_second_up_starts_nothing(whole: Stack) -> None:
    before = whole.status()
    whole.up()
    assert whole.status() == before
    assert "started" not in whole.said


def test_airflow_lets_in_whoever_has_the_generated_password(whole: Stack) -> None:
    settings = whole.settings
    assert settings.airflow_url
    assert settings.airflow_password
    login = {"username": settings.airflow_username, "password": settings.airflow_password.get_secret_value()}
    with httpx.Client(base_url=settings.airflow_url, timeout=30) as client:
        assert client.post("/auth/token", json={**login, "password": "wrong"}).status_code == 401
        assert client.post("/auth/token", json=login).is_success


def test_servers_listen_on_loopback_only(whole: Stack) -> None:
    listening = set()
    for process in Memory.load(whole.home).processes.values():
        for member in process.session():
            # Airflow's workers come and go while one looks.
            with suppress(psutil.NoSuchProcess):
                found = member.net_connections()
                listening |= {one.laddr.ip for one in found if one.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}


def test_no_secret_is_in_the_arguments_of_any_process(whole: Stack) -> None:
    members = [m for process in Memory.load(whole.home).processes.values() for m in process.session()]
    words = " ".join(word for member in members for word in member.cmdline())
    assert "airflow" in words
    assert [name for name, secret in secrets_of(whole.home).items() if secret in words] == []


def test_no_secret_is_in_any_log(whole: Stack) -> None:
    text = "".join(log.read_text(errors="replace") for log in (whole.home / "logs").iterdir())
    assert "scheduler" in text
    assert [name for name, secret in secrets_of(whole.home).items() if secret in text] == []


def test_whatever_of_airflow_is_killed_comes_back_though_nobody_calls_up(whole: Stack) -> None:
    before = whole.status().services
    for name in COMPONENTS:
        (component,) = psutil.Process(before[name].pid).children()
        component.kill()
    since, url = time.time(), whole.settings.airflow_url or ""
    eventually(lambda: not airflow.not_ready(url, since=since, names=COMPONENTS))
    after = whole.status().services
    assert {name: after[name] for name in COMPONENTS} == {name: before[name] for name in COMPONENTS}


def test_a_keeper_killed_with_9_comes_back_and_neither_its_scheduler_nor_its_workers_stay(whole: Stack) -> None:
    scheduler = Memory.load(whole.home).processes["airflow-scheduler"]
    others = {name: s.pid for name, s in whole.status().services.items() if name != "airflow-scheduler"}
    workers = [member for member in scheduler.session() if member.pid != scheduler.pid]
    leader = psutil.Process(scheduler.pid)
    os.kill(scheduler.pid, signal.SIGKILL)
    psutil.wait_procs([leader], timeout=30)  # giving back its memory takes a busy machine a while
    whole.up()
    assert f"pid {scheduler.pid} is gone" in whole.said
    after = whole.status().services
    assert after["airflow-scheduler"].state == "running"
    assert {name: after[name].pid for name in others} == others
    _, alive = psutil.wait_procs(workers, timeout=5)
    assert alive == []
