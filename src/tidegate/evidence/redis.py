"""What can be measured of a Redis: what it keeps, in how much memory, how often it knew the answer, how fast it is, and how fast it fails over.

The keeper's user suffices for what only looks; load and failover take servers that live for the measurement alone.
"""

from __future__ import annotations

import csv
import os
import secrets
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.errors import StackError, UnavailableError
from tidegate.stack import port
from tidegate.stack.port import LOOPBACK
from tidegate.stack.redis_sentinel import Watched
from tidegate.stack.redis_server import RedisServer
from tidegate.stores.redis import PREFIX, Store

_BENCH = {"bench": "~* &* +@all -@dangerous +config|get"}
_SETTINGS = (
    "maxmemory", "maxmemory-policy", "appendonly", "appendfsync", "aof-load-truncated", "save", "bind", "protected-mode",
    "databases", "maxclients", "timeout", "tcp-keepalive", "slowlog-log-slower-than", "latency-monitor-threshold",
    "enable-debug-command", "enable-module-command", "enable-protected-configs",
)  # fmt: skip


@dataclass(frozen=True)
class Reading:
    """What was asked or run (no secret in it), all that was answered, and the figures in it."""

    command: str
    text: str
    figures: dict[str, Any]


def ping(store: Store) -> Reading:
    """Ask whether it answers."""
    with store.reached() as client:
        answer = client.ping()
    return Reading("PING", "PONG\n" if answer else f"{answer!r}\n", {"answered": int(bool(answer))})


def structures(server: RedisServer) -> Reading:
    """Keep a value of each kind in a server of `scratch` and read it back: a string that expires, a hash, a sorted set, a stream."""
    asked: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
        (("SET", "test:string", "hello", "EX", "300"), ("GET", "test:string")),
        (("HSET", "test:hash", "field1", "value1", "field2", "value2"), ("HGETALL", "test:hash")),
        (("ZADD", "test:sorted", "1", "a", "2", "b", "3", "c"), ("ZRANGE", "test:sorted", "0", "-1")),
        (("XADD", "test:stream", "*", "key1", "value1"), ("XLEN", "test:stream")),
    ]
    expected: list[object] = [b"hello", {b"field1": b"value1", b"field2": b"value2"}, [b"a", b"b", b"c"], 1]
    lines, right = [], 0
    with Store(server.url("bench")) as store, store.reached() as client:
        for (write, read), value in zip(asked, expected, strict=True):
            answered, kept = client.execute_command(*write), client.execute_command(*read)
            right += kept == value
            lines.append(f"{' '.join(write)}: {answered!r}\n{' '.join(read)}: {kept!r}")
        lines.append(f"TTL test:string: {(lasts := client.ttl('test:string'))}")
    figures = {"structures": len(asked), "failed": len(asked) - right + (not 0 < lasts <= 300)}
    return Reading("SET, HSET, ZADD, XADD, each read back", "\n".join([*lines, ""]), figures)


def info(store: Store) -> Reading:
    """Read INFO; `figures` has every field, numbers as numbers."""
    text = _raw(store, "INFO", "everything")
    figures = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon and not line.startswith("#"):
            figures[name] = _number(value)
    return Reading("INFO everything", text, figures)


def config(store: Store) -> Reading:
    """Read the settings that decide what is lost, evicted, or open; none of them is a secret."""
    with store.reached() as client:
        found = client.config_get(*_SETTINGS)
    figures = {name: _number(found[name]) for name in _SETTINGS if name in found}
    text = "".join(f"{name} {value}\n" for name, value in figures.items())
    return Reading(f"CONFIG GET {' '.join(_SETTINGS)}", text, figures)


def memory(store: Store) -> Reading:
    """Read how much memory is used, of how much, and what was evicted for lack of it."""
    text = _raw(store, "INFO", "memory")
    all_of_it = info(store).figures
    names = (
        "used_memory", "used_memory_rss", "used_memory_peak", "used_memory_dataset", "maxmemory",
        "mem_fragmentation_ratio", "evicted_keys", "expired_keys",
    )  # fmt: skip
    figures = {name: all_of_it[name] for name in names}
    limit = figures["maxmemory"]
    return Reading("INFO memory", text, {**figures, "used_share": figures["used_memory"] / limit if limit else None})


def hit_rate(store: Store) -> Reading:
    """Read how often a key that was asked for was there; `hit_rate` is None where nobody has asked.

    The server counts every reading of a key, that of leases too; a `stores.cache.Cache` counts its own.
    """
    text = _raw(store, "INFO", "stats")
    figures = info(store).figures
    hits, misses = figures["keyspace_hits"], figures["keyspace_misses"]
    rate = hits / (hits + misses) if hits + misses else None
    return Reading("INFO stats", text, {"hits": hits, "misses": misses, "hit_rate": rate})


def big_keys(store: Store, most: int = 10) -> Reading:
    """Walk over all keys and weigh each; `largest` lists the heaviest, in bytes."""
    weighed: list[tuple[int, str, str]] = []
    with store.reached() as client:
        for key in client.scan_iter(count=500):
            # One that has expired meanwhile weighs nothing.
            weight = client.memory_usage(key)
            if weight is not None:
                weighed.append((weight, key.decode(errors="replace"), client.type(key).decode()))
    weighed.sort(reverse=True)
    largest = [{"key": key, "type": kind, "bytes": weight} for weight, key, kind in weighed[:most]]
    figures = {
        "keys": len(weighed),
        "bytes": sum(weight for weight, _, _ in weighed),
        "by_type": dict(Counter(kind for _, _, kind in weighed)),
        "foreign_keys": sum(not key.startswith(PREFIX) for _, key, _ in weighed),
        "largest": largest,
    }
    lines = [f"{weight:>12} {kind:8} {key}" for weight, key, kind in weighed[:most]]
    head = f"{len(weighed)} keys, {figures['bytes']} bytes; the {len(lines)} heaviest (bytes, type, key):"
    return Reading("SCAN, MEMORY USAGE and TYPE of each key", "\n".join([head, *lines, ""]), figures)


def benchmark(server: RedisServer, requests: int = 20_000, clients: int = 50) -> Reading:
    """Load a server of `scratch` with redis-benchmark: operations a second and P95 in ms of GET, SET, INCR, LPUSH, SADD."""
    words = ["redis-benchmark", "-h", LOOPBACK, "-p", str(server.port)]
    rest = ["-t", "get,set,incr,lpush,sadd", "-n", str(requests), "-c", str(clients), "-r", "10000", "--csv"]
    # redis-benchmark reads a password from nowhere else; this one belongs to a server that ends with this measurement.
    login = ["--user", "bench", "-a", server.keeper_password]
    done = subprocess.run([*words, *login, *rest], capture_output=True, text=True, check=False)
    rows = list(csv.DictReader(line for line in done.stdout.splitlines() if line.startswith('"')))
    if done.returncode != 0 or len(rows) != 5:
        raise StackError(f"redis-benchmark ended with status {done.returncode}: {(done.stderr + done.stdout).strip()}")
    figures = {
        row["test"]: {"ops_per_second": float(row["rps"]), "p95_ms": float(row["p95_latency_ms"])} for row in rows
    }
    return Reading(" ".join([*words, *rest]), done.stdout, figures)


def failover(watched: Watched, patience: float = 60) -> Reading:
    """Kill the master with -9 under a client that writes; how long until that client's next write is acknowledged.

    `lost` counts acknowledged writes that the new master does not have: replication is asynchronous.
    """
    lines: list[str] = []
    with Store(watched.url(), retries=0) as store:
        written = 0

        def write() -> None:
            nonlocal written
            with store.reached() as client:
                client.set(f"{PREFIX}cache:failover:{written + 1}", written + 1)
            written += 1

        for _ in range(100):
            write()
        old = watched.master()
        process = old.running()
        assert process
        os.kill(process.pid, signal.SIGKILL)
        killed = time.monotonic()
        lines.append(
            f"0.000 s: master on port {old.port} (pid {process.pid}) killed after {written} acknowledged writes"
        )
        before, refused = written, 0
        while written == before:
            try:
                write()
            except UnavailableError as away:
                refused += 1
                if refused == 1:
                    lines.append(f"{time.monotonic() - killed:.3f} s: first refusal: {away.__cause__}")
                if time.monotonic() - killed > patience:
                    raise
                time.sleep(0.02)
        seconds = time.monotonic() - killed
        for _ in range(100):
            write()
        with store.reached() as client:
            kept = sum(client.get(f"{PREFIX}cache:failover:{n}") is not None for n in range(1, written + 1))
    process.is_alive()  # reaps it
    new = watched.master()
    lines.append(
        f"{seconds:.3f} s: first write acknowledged again, by the server on port {new.port}; {refused} refused meanwhile"
    )
    lines.append(f"{kept} of {written} acknowledged writes are there")
    figures = {"seconds": seconds, "acknowledged": written, "lost": written - kept, "refused": refused}
    return Reading("kill -9 of the master, writes through sentinels", "\n".join([*lines, ""]), figures)


@contextmanager
def scratch(folder: Path) -> Iterator[RedisServer]:
    """Run a server under `folder` for a measurement; its `keeper_password` is its user `bench`'s, too."""
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    place = folder / "redis-scratch"
    number = port.choose(23000, place, set())
    server = RedisServer(
        place, secrets.token_hex(8), secrets.token_hex(8), place.with_suffix(".log"), number, users=_BENCH
    )
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def watched(folder: Path) -> Iterator[Watched]:
    """Run a master, a replica and three sentinels under `folder` for a measurement."""
    found = Watched(folder, secrets.token_hex(8), secrets.token_hex(8))
    try:
        found.start()
        yield found
    finally:
        found.stop()


def _raw(store: Store, *words: str) -> str:
    with store.reached() as client:
        connection = client.connection_pool.get_connection()
        try:
            connection.send_command(*words)
            answer: bytes = connection.read_response()
        finally:
            client.connection_pool.release(connection)
    return answer.decode()


def _number(value: bytes | str) -> int | float | str:
    text = value.decode() if isinstance(value, bytes) else value
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
