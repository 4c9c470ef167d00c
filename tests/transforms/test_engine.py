"""The session's life: opened where the settings say, in UTC, on loopback, and gone afterwards."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import psutil
import pytest
from tests.transforms.servers import free_port

from tidegate.errors import StackError, UnavailableError
from tidegate.settings import Settings, load_settings
from tidegate.transforms.engine import spark_session


def settings(home: Path, master: str | None = None, remote: str | None = None) -> Settings:
    return load_settings(home=home, spark_master=master, spark_remote=remote)


def still_runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE  # a dead child of the JVM may wait for init to reap it
    except psutil.NoSuchProcess:
        return False


def test_without_an_engine_the_error_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="tidegate up"), spark_session(settings(tmp_path)):
        pass


@pytest.mark.parametrize("address", ["sc://127.0.0.1:{port}/;token=hush", "spark://127.0.0.1:{port}"])
def test_an_engine_that_does_not_answer_is_told_at_once_and_without_its_token(tmp_path: Path, address: str) -> None:
    port = free_port()
    address = address.format(port=port)
    chosen = settings(tmp_path, **{"remote" if address.startswith("sc") else "master": address})
    with pytest.raises(UnavailableError, match=f"127.0.0.1:{port}") as raised, spark_session(chosen):
        pass
    assert "hush" not in str(raised.value)


def test_jvm_spark_without_java_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(StackError, match="openjdk-17"), spark_session(settings(tmp_path, master="local[1]")):
        pass


def test_a_java_that_is_too_old_is_named_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with (
        pytest.raises(StackError, match=r"needs Java 17 or newer, and found Java 11 at .*openjdk-17"),
        spark_session(settings(tmp_path, master="local[1]")),
    ):
        pass


# pyspark drops its pipe to the process that ended; in a long-lived process the collector closes it
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_jvm_that_cannot_start_is_a_stack_error_that_names_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho no room for a heap >&2\nexit 1\n")
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(StackError, match=r"spark\.log"), spark_session(settings(tmp_path, master="local[1]")):
        pass
    gc.collect()
    assert "no room for a heap" in (tmp_path / "logs" / "spark.log").read_text()


def test_a_connect_session_is_closed_with_its_block(sail: Settings) -> None:
    with spark_session(sail) as spark:
        assert spark.conf.get("spark.sql.session.timeZone") == "UTC"
        assert [row[0] for row in spark.range(3).collect()] == [0, 1, 2]
    assert spark.is_stopped  # type: ignore[attr-defined]
    assert "SPARK_CONNECT_MODE_ENABLED" not in os.environ


def test_jvm_spark_listens_on_loopback_writes_only_under_home_and_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("SPARK_CONNECT_MODE_ENABLED", "1")  # as another library of this process may have left it
    before = set(psutil.Process().children(recursive=True))
    with spark_session(settings(tmp_path / "home", master="local[1]")) as spark:
        assert spark.conf.get("spark.sql.session.timeZone") == "UTC"
        assert spark.range(3).count() == 3
        started = set(psutil.Process().children(recursive=True)) - before
        listening = {
            connection.laddr.ip
            for process in started
            for connection in process.net_connections()
            if connection.status == psutil.CONN_LISTEN
        }
        assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
    assert not [process for process in started if still_runs(process)]
    assert os.environ["SPARK_CONNECT_MODE_ENABLED"] == "1"
    assert list(elsewhere.iterdir()) == []
    assert sorted(path.name for path in (tmp_path / "home").iterdir()) == ["logs", "spark"]
