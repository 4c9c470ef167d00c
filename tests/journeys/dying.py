"""Runs work in a forked child that kills itself with SIGKILL just before its N-th effect on the world.

An effect is a statement that writes or a commit sent to PostgreSQL, a piece of a COPY, or a file given its final name. So
every boundary between two steps is met, and every boundary inside them, without a hook in the code under test. What only
reads is no effect: to die before it leaves the world as it is for the next that writes.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

SURVIVED, FAILED = 0, 70
_READS = re.compile(r"\s*(SELECT|SHOW|WITH)\b", re.IGNORECASE)


def run(work: Callable[[], Any], die_before: int | None = None) -> tuple[int, int]:
    """Fork, do `work`, and return (signal or exit status, number of effects counted)."""
    counted, counter = os.pipe()
    child = os.fork()
    if child == 0:
        sys.settrace(None)  # nobody would read what coverage notes here: the child ends without a word
        os.close(counted)
        status = FAILED
        try:
            effects = _count(die_before)
            work()
            status = SURVIVED
            os.write(counter, b"%d" % effects[0])
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(status)
    os.close(counter)
    _, wait = os.waitpid(child, 0)
    seen = os.read(counted, 32)
    os.close(counted)
    ended = os.WTERMSIG(wait) if os.WIFSIGNALED(wait) else os.WEXITSTATUS(wait)
    return ended, int(seen or b"0")


def run_apart(work: partial[Any], die_before: int | None = None) -> tuple[int, int]:
    """Do the same in a child of a process that has no threads: `work` is a function of a module, with what it is given.

    A child that is forked beside threads may wait for ever for a lock that one of them held: OpenSSL's, where a password is
    stretched.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work.func.__module__, "kafka", "duckdb", "pyarrow", "pgpq", "numpy"])
    receiving, sending = context.Pipe(duplex=False)
    child = context.Process(target=_apart, args=(work, die_before, sending))
    child.start()
    sending.close()
    child.join()
    assert child.exitcode is not None
    try:
        seen = receiving.recv()
    except EOFError:
        seen = 0
    return abs(child.exitcode), seen


def _apart(work: partial[Any], die_before: int | None, sending: Connection) -> None:
    effects = _count(die_before)
    work()
    sending.send(effects[0])


def _count(die_before: int | None) -> list[int]:
    """Wrap every effect so that it is counted, and death comes before the chosen one."""
    effects = [0]

    def wrap(owner: type, name: str) -> None:
        original = getattr(owner, name)

        def counted(*arguments: Any, **keywords: Any) -> Any:
            if not (name == "execute" and _reads(arguments[1])):
                effects[0] += 1
                if effects[0] == die_before:
                    os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **keywords)

        setattr(owner, name, counted)

    for owner, name in (
        (psycopg.Cursor, "execute"),
        (psycopg.Cursor, "executemany"),
        (psycopg.Connection, "commit"),
        (psycopg.Copy, "write"),
        (Path, "replace"),
    ):
        wrap(owner, name)
    return effects


def _reads(statement: Any) -> bool:
    text = statement.as_string() if isinstance(statement, sql.Composable) else str(statement)
    return bool(_READS.match(text)) and not re.search(r"\b(INSERT|UPDATE|DELETE|nextval)\b", text)
