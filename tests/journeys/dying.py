"""Runs work in a forked child that kills itself with SIGKILL just before its N-th effect on the world.

An effect is a statement that writes or a commit sent to PostgreSQL, a piece of a COPY, or a file given its final name. So
every boundary between two steps is met, and every boundary inside them, without a hook in the code under test. What only
reads is no effect: to die before it leaves the world as it is for the next that writes.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
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
            effects = _count(die_before, counter)
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


def _count(die_before: int | None, counter: int) -> list[int]:
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
