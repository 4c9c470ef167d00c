"""Keeps a server at work that ends by itself: Airflow's do so when their database is gone for a moment.

The keeper is a fork that has imported what the server needs, so that starting anew costs no imports. It leads the server's
session, and is the one that is told to end: it hands that on.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from tidegate.stack.process import Process

#: Seconds that a server lives when nothing is wrong with how it is set up.
SETTLED = 20
#: How often one that has never lived so long is started: more would only hide from `tidegate up` what is wrong.
ATTEMPTS = 3
#: Seconds between two starts: at first, and at most.
_PAUSES = (1.0, 30.0)


def keep(serve: Callable[[], object], say: Callable[[str], object]) -> NoReturn:
    """Run `serve` in a child, and again whenever that ends, until this process is told to end (SIGTERM).

    What a child leaves behind in the session is ended before the next begins. This process ends, with the child's status,
    when it was told to, or when `serve` has never lasted.
    """
    child, told, settled, failures = 0, False, False, 0

    def end(number: int, _: object) -> None:
        nonlocal told
        told = True
        if not child:
            os._exit(0)
        with suppress(ProcessLookupError):
            os.kill(child, number)

    signal.signal(signal.SIGTERM, end)
    while True:
        began = time.monotonic()
        # Held back until it is known whom to hand it on to.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        child = os.fork()
        if not child:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        if not child:
            serve()
            sys.exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        child, lived = 0, time.monotonic() - began
        settled, failures = (True, 1) if lived >= SETTLED else (settled, failures + 1)
        if told or (not settled and failures == ATTEMPTS):
            os._exit(status if status >= 0 else 128 - status)
        left = Process.of(os.getpid()).end_session(spared=os.getpid())
        pause = min(_PAUSES[0] * 2 ** (failures - 1), _PAUSES[1])
        say(
            f"has ended by itself after {lived:.0f} s (status {status}; {left} processes that it left behind were "
            f"ended), and is started again in {pause:.0f} s"
        )
        time.sleep(pause)
