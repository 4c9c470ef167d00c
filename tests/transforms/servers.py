"""Real Spark engines for a test: Sail, and a standalone JVM cluster, each stopped by its own pid."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(command: list[str], folder: Path, until: Callable[[str], bool], **environment: str) -> Iterator[int]:
    """Run a server for the length of a block; it is ready when `until` likes its log. Yield its pid."""
    log = folder / "log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=sink,
            stderr=sink,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 60
        while not until(log.read_text(errors="replace")):
            assert process.poll() is None, f"{command[1]} ended: {log.read_text(errors='replace')}"
            assert time.monotonic() < deadline, f"{command[1]} is not ready: {log.read_text(errors='replace')}"
            time.sleep(0.05)
        yield process.pid
    finally:
        # Sail waits for the sessions that are open, which nobody closes any more.
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def sail_server(folder: Path) -> Iterator[tuple[str, int]]:
    """Run Sail; yield its address and pid."""
    port = free_port()
    command = [sys.executable, "-m", "pysail", "spark", "server", "--ip", "127.0.0.1", "--port", str(port)]
    with serving(command, folder, lambda log: answers(port)) as pid:
        yield f"sc://127.0.0.1:{port}", pid


@contextmanager
def standalone_cluster(folder: Path) -> Iterator[str]:
    """A Spark cluster of one master and one worker on loopback; yield the master's address."""
    import pyspark

    spark_class = str(Path(pyspark.__file__).parent / "bin" / "spark-class")
    port = free_port()
    here = {"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_LOCAL_DIRS": str(folder / "local")}
    place = ["--host", "127.0.0.1", "--webui-port", "0"]
    master = f"spark://127.0.0.1:{port}"
    for name in ("master", "worker"):
        (folder / name).mkdir()
    with (
        serving(
            [spark_class, "org.apache.spark.deploy.master.Master", *place, "--port", str(port)],
            folder / "master",
            lambda log: answers(port),
            **here,
        ),
        serving(
            [
                *(spark_class, "org.apache.spark.deploy.worker.Worker", *place),
                *("--cores", "2", "--memory", "1g", "--work-dir", str(folder / "worker"), master),
            ],
            folder / "worker",
            lambda log: "Successfully registered with master" in log,
            **here,
        ),
    ):
        yield master
