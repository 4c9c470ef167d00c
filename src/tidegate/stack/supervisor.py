"""Starts, recognises and stops the processes of one checkout, and says what it did.

How a server is configured and when it is ready is each server's own module's matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tidegate.stack import port
from tidegate.stack.home import Home, Say
from tidegate.stack.memory import Memory
from tidegate.stack.process import Process, launch


class Supervisor:
    """The one that knows which process serves what; to be used under the home's lock."""

    def __init__(self, home: Home, say: Say) -> None:
        self.home = home
        self.say = say
        self.memory = Memory.load(home.path)

    def port_for(self, name: str, base: int) -> int:
        """Return the port of a service: the remembered one, or another when a stranger listens there meanwhile."""
        remembered = self.memory.ports.get(name)
        held = self.memory.processes.get(name)
        if remembered and ((held and held.is_alive()) or port.is_free(remembered)):
            return remembered
        return self.move_port(name, base)

    def move_port(self, name: str, base: int) -> int:
        """Choose and remember another port for a service."""
        old = self.memory.ports.get(name)
        chosen = port.choose(base, self.home.path, avoid=set(self.memory.ports.values()))
        if old:
            self.say(
                f"{name}: port {old} is taken by a program that tidegate did not start, moved to {chosen}"
            )
        self.memory.ports[name] = chosen
        self.memory.save()
        return chosen

    def log(self, name: str) -> Path:
        """Return the log file of a service."""
        return self.home.logs / f"{name}.log"

    def remember(self, name: str, process: Process, configuration: str) -> None:
        """Keep in mind that `process` serves `name`."""
        self.memory.processes[name] = replace(process, configuration=configuration)
        self.memory.save()

    def is_current(self, name: str, configuration: str) -> bool:
        """Return whether the service runs with this configuration; clear away what is left of one that does not."""
        process = self.memory.processes.get(name)
        if process is None:
            return False
        if process.is_alive() and process.configuration == configuration:
            return True
        if process.is_alive():
            self.say(f"{name}: its configuration has changed, stopped (pid {process.pid})")
            process.stop()
        else:
            orphans = len(process.session())
            process.stop()
            left = f", {orphans} processes it had left behind were ended" if orphans else ""
            self.say(f"{name}: was not running any more (pid {process.pid} is gone{left})")
        self.forget(name)
        return False

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

    def stop(self, name: str, patience: float = 20) -> None:
        """Stop a service that this checkout has started; a stranger that has its pid by now is left alone."""
        process = self.memory.processes.get(name)
        if process is None:
            return
        was_alive = process.is_alive()
        process.stop(patience=patience)
        self.forget(name)
        self.say(f"{name}: stopped (pid {process.pid})" if was_alive else f"{name}: was not running")

    def forget(self, name: str) -> None:
        """Drop a service's process from memory; its port stays remembered."""
        self.memory.processes.pop(name, None)
        self.memory.save()
