"""One Spark session at a time, on the engine that the settings name, and nothing of it left behind.

`spark_master` set: JVM Spark (local or a cluster). Otherwise `spark_remote`: a Spark Connect server, which is
Sail unless you run another. What is computed on it is not known here.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tidegate.errors import StackError, UnavailableError
from tidegate.settings import Settings
from tidegate.stack.jars import OLDEST_JAVA, java_version

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# What both engines are told, so that the same rows come out.
_SESSION = {"spark.sql.session.timeZone": "UTC"}
_JVM = {
    **_SESSION,
    "spark.app.name": "tidegate",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
}
_LOOPBACK = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
_CONNECT_MODE = "SPARK_CONNECT_MODE_ENABLED"
_CONNECT_PORT = 15002
_PYTHON = "PYSPARK_PYTHON"

# pyspark keeps its mode in the environment and its gateway in class attributes: one session a process.
_one_at_a_time = threading.Lock()


@contextmanager
def spark_session(settings: Settings) -> Iterator[SparkSession]:
    """Open a session in UTC and close it with all it started; a second thread waits for the first.

    Raises:
        StackError: no engine is set, or JVM Spark has no Java here.
        UnavailableError: the engine does not answer, at the start or (checked when the body fails) any more.
    """
    with _one_at_a_time, warnings.catch_warnings():
        # No transform goes through pandas, so what pyspark thinks of its version does not concern us; and a
        # client that gives up raises an error besides its warning.
        warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
        warnings.filterwarnings("ignore", r"\[RETRIES_EXCEEDED\]", UserWarning)
        if settings.spark_master:
            check_answers(settings)
            with _environment(None), _jvm(settings.spark_master, settings.home) as session:
                yield session
        elif settings.spark_remote:
            check_answers(settings)
            with _environment("1"), _connect(settings.spark_remote) as session:
                yield session
        else:
            raise StackError(
                "there is no Spark engine: neither TIDEGATE_SPARK_REMOTE nor TIDEGATE_SPARK_MASTER is set. "
                "`tidegate up` starts Sail and sets the first"
            )


def check_answers(settings: Settings) -> None:
    """Raise UnavailableError when the engine that the settings name has an address and nobody listens there.

    Spark's own clients would try for one minute (master) or ten (Connect) before they say so.
    """
    address = settings.spark_master or settings.spark_remote or ""
    if urlsplit(address).scheme not in ("sc", "spark"):
        return  # local[*] has no address; yarn and k8s know theirs
    hosts = [urlsplit(f"//{host}") for host in urlsplit(address).netloc.split(",")]
    for host in hosts:
        try:
            socket.create_connection((host.hostname or "", host.port or _CONNECT_PORT), timeout=5).close()
        except OSError:
            continue
        return
    shown = ", ".join(f"{host.hostname}:{host.port or _CONNECT_PORT}" for host in hosts)  # the rest may hold a token
    raise UnavailableError(
        f"no Spark engine answers at {shown}: `tidegate status` shows Sail's state, `tidegate up` starts it"
    )


@contextmanager
def _connect(remote: str) -> Iterator[SparkSession]:
    from pyspark.sql.connect.client.retries import DefaultPolicy
    from pyspark.sql.connect.session import SparkSession

    session = SparkSession.builder.remote(remote).create()
    try:
        # The default gives up after ten minutes; a task that fails is tried again by Airflow anyway.
        session.client.set_retry_policies([DefaultPolicy(max_retries=3)])
        for key, value in _SESSION.items():
            session.conf.set(key, value)
        yield session
    finally:
        session.stop()


@contextmanager
def _jvm(master: str, home: Path) -> Iterator[SparkSession]:
    from pyspark import SparkConf, SparkContext
    from pyspark.errors import PySparkRuntimeError
    from pyspark.java_gateway import launch_gateway
    from pyspark.sql import SparkSession

    _require_java(master)
    folder = home / "spark"
    folder.mkdir(parents=True, exist_ok=True)
    log = home / "logs" / "spark.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    options = {
        **_JVM,
        "spark.master": master,
        "spark.local.dir": str(folder / "local"),
        "spark.sql.warehouse.dir": (folder / "warehouse").as_uri(),
        **(_LOOPBACK if _is_here(master) else {}),
    }
    configuration = SparkConf(loadDefaults=False).setAll(list(options.items()))
    try:
        with log.open("ab") as sink:
            gateway = launch_gateway(configuration, {"cwd": folder, "stdout": sink, "stderr": sink})
    except PySparkRuntimeError as failure:
        raise StackError(f"JVM Spark ({master}) did not start; Java's own words are at the end of {log}") from failure
    try:
        session = SparkSession(SparkContext(conf=configuration, gateway=gateway))
        try:
            yield session
        finally:
            session.stop()
    finally:
        _end(gateway)
        SparkContext._gateway = SparkContext._jvm = None


def _require_java(master: str) -> None:
    java_home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(java_home) / "bin") if java_home else None)
    number = java_version(found) if found else None
    # One that does not say its version may be right; if it is not, Spark's log tells.
    if found and (number is None or number >= OLDEST_JAVA):
        return
    seen = f"found Java {number} at {found}" if found else "there is none on PATH or in JAVA_HOME"
    raise StackError(
        f"JVM Spark ({master}) needs Java {OLDEST_JAVA} or newer, and {seen}: install openjdk-17-jre-headless, "
        "or leave TIDEGATE_SPARK_MASTER empty to use Sail"
    )


def _is_here(master: str) -> bool:
    return master.startswith("local") or urlsplit(master).hostname in ("127.0.0.1", "localhost", "::1")


def _end(gateway: Any) -> None:
    # pyspark keeps its JVM until the process ends; an Airflow worker or a test session lives much longer.
    process: subprocess.Popen[bytes] = gateway.proc
    gateway.shutdown()
    assert process.stdin is not None
    process.stdin.close()  # the JVM ends itself when this pipe does
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def _environment(connect_mode: str | None) -> Iterator[None]:
    # pyspark.sql.functions asks the first variable, at each call, which engine's columns it should make. By the second a
    # JVM finds the Python that it runs ours with: it would take any `python3` on PATH, whatever its version.
    wanted = {_CONNECT_MODE: connect_mode, _PYTHON: os.environ.get(_PYTHON) or sys.executable}
    before = {name: os.environ.pop(name, None) for name in wanted}
    os.environ.update({name: value for name, value in wanted.items() if value is not None})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
