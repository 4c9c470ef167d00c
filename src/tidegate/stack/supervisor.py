"""Starts, recognises and stops the processes of one checkout, and says what it did.

How a server is configured and when it is ready is each server's own module's matter.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from tidegate.errors import StackError
from tidegate.stack import port
from tidegate.stack.home import Home, Say
from tidegate.stack.memory import Memory
from tidegate.stack.process import Process, launch


class Server(Protocol):
    """One that knows its own process, whoever remembers it, and listens on `port`."""

    port: int

    def running(self) -> Process | None:
        """Return the process, or None."""

    def start(self) -> Process:
        """Start on `port` and return once it answers; raises StackError."""

    def stop(self) -> None:
        """End it."""


class Supervisor:
    """The one that knows which process serves what; to be used under the home's lock.

    Two servers may be started at once, each by a thread of its own.
    """

    def __init__(self, home: Home, say: Say) -> None:
        self.home = home
        self.say = say
        self.memory = Memory.load(home.path)
        self._one_at_a_time = threading.RLock()

    def port_for(self, name: str, base: int) -> int:
        """Return a service's port: the remembered one, or another when a stranger listens there by now."""
        remembered = self.memory.ports.get(name)
        held = self.memory.processes.get(name)
        if remembered and ((held and held.is_alive()) or port.is_free(remembered)):
            return remembered
        return self.move_port(name, base)

    def move_port(self, name: str, base: int) -> int:
        """Choose and remember another port for a service."""
        with self._one_at_a_time:
            old = self.memory.ports.get(name)
            chosen = port.choose(base, self.home.path, avoid=set(self.memory.ports.values()))
            self.memory.ports[name] = chosen
            self.memory.save()
        if old:
            self.say(f"{name}: port {old} is taken by a program that tidegate did not start, moved to {chosen}")
        return chosen

    def log(self, name: str) -> Path:
        """Return the log file of a service."""
        return self.home.logs / f"{name}.log"

    def remember(self, name: str, process: Process, configuration: str) -> None:
        """Keep in mind that `process` serves `name`."""
        with self._one_at_a_time:
            self.memory.processes[name] = replace(process, configuration=configuration)
            self.memory.save()

    def want(self, name: str) -> None:
        """Keep in mind that a server of choice is to run from now on."""
        with self._one_at_a_time:
            self.memory.wanted = sorted({*self.memory.wanted, name})
            self.memory.save()

    def missing(self, names: Sequence[str], configuration: str) -> list[str]:
        """Return the services that do not run with this configuration, cleared of what was left of them."""
        changed, missing = [], []
        for name in names:
            process = self.memory.processes.get(name)
            if process and process.is_alive() and process.configuration == configuration:
                continue
            missing.append(name)
            if process and process.is_alive():
                self.say(f"{name}: its configuration has changed, starting it anew")
                changed.append(name)
            elif process:
                orphans = len(process.session())
                process.stop()
                left = f", {orphans} processes that it had left behind were ended" if orphans else ""
                self.say(f"{name}: was not running any more (pid {process.pid} is gone{left})")
                self.forget(name)
        self.stop(changed)
        return missing

    def start(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        configuration: str,
        folder: Path = Path("/"),
    ) -> Process:
        """Start a service and remember it before anything else can happen."""
        process = launch(command, log=self.log(name), environment=environment, folder=folder)
        self.remember(name, process, configuration)
        return process

    def stop(self, names: Sequence[str], patience: float = 20) -> None:
        """Stop services that this checkout has started, all at once; a stranger with that pid is spared."""
        processes = {name: p for name in names if (p := self.memory.processes.get(name))}
        alive = {name for name, process in processes.items() if process.is_alive()}
        for process in processes.values():
            process.ask_to_end()
        deadline = time.monotonic() + patience
        for name, process in processes.items():
            process.stop(patience=max(0.0, deadline - time.monotonic()))
            self.forget(name)
            self.say(f"{name}: stopped (pid {process.pid})" if name in alive else f"{name}: was not running")

    def start_listening(
        self,
        name: str,
        base: int,
        server: Server,
        prepare: Callable[[], object] = lambda: None,
        mend: Callable[[], bool] = lambda: False,
    ) -> Process:
        """Start a server that finds itself again, on its remembered port or another; `prepare` it once that is known.

        Between looking and listening somebody else may have taken the port: then another one is tried. What else keeps
        it from starting is raised (StackError), unless `mend` says that it has mended it.
        """
        attempt = 0
        while True:
            attempt += 1
            server.port = self.port_for(name, base)
            prepare()
            try:
                return server.start()
            except StackError:
                if attempt == 3 or (port.is_free(server.port) and not mend()):
                    raise

    def end(self, name: str, server: Server) -> None:
        """Stop a server that finds itself again, whether it is remembered or not, and forget it."""
        running, held = server.running(), self.memory.processes.get(name)
        if running:
            server.stop()
            self.say(f"{name}: stopped (pid {running.pid})")
        elif held and held.is_alive():
            # Started when its files lay elsewhere: who may enter the folder has changed since.
            self.stop([name], patience=5)
        self.forget(name)

    def forget(self, name: str) -> None:
        """Drop a service's process from memory; its port stays remembered."""
        with self._one_at_a_time:
            self.memory.processes.pop(name, None)
            self.memory.save()
