"""A team as its file in `teams/` says: roles, waves, what each role makes and measures in which wave, and the gates.

What an artifact says and what a probe measures is not known here; nor what a strategy asks for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tidegate.errors import UsageError
from tidegate.strategy.gate import Gate
from tidegate.strategy.quantity import Bound, Comparison, unit

_DEMAND = re.compile(r"(?P<probe>[a-z_]+) (?P<figure>[a-z0-9_]+) (?P<comparison><=|>=|<|>|=) (?P<value>\d+(\.\d+)?)")


@dataclass(frozen=True)
class Demand:
    """A figure of a probe, the number that it is held against, and the line of the team's file that says so."""

    probe: str
    figure: str
    bound: Bound
    line: int


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Wave(_Strict):
    """A wave: who works in it; `beside` names the one that it runs together with."""

    wave: str
    name: str
    roles: tuple[str, ...]
    beside: str | None = None
    attempts: int = Field(1, ge=1)


class Role(_Strict):
    """A role: what it answers for, how it thinks, and by wave the files it makes and the probes it runs.

    `needs` is a word that the strategy's stack must hold: without it the role has nothing to do. Where a role `splits`, its
    probes may be run by several hands at once.
    """

    code: str = ""
    name: str
    does: str
    persona: str
    needs: str = ""
    splits: bool = False
    artifacts: dict[str, tuple[str, ...]] = {}
    evidence: dict[str, tuple[str, ...]] = {}

    @property
    def probes(self) -> set[str]:
        """The probes that it runs in any wave."""
        return {probe for probes in self.evidence.values() for probe in probes}


class GateRules(_Strict):
    """When a gate stands in the way, what it asks for beside the strategy, and whose work is done again without that.

    One that has something `signed` waits for all others of its wave; a `hard_stop` ends the delivery at once.
    """

    before: str = ""
    after: str = ""
    again: tuple[str, ...] = ()
    artifacts_of: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    demands: tuple[str, ...] = ()
    passed: tuple[Gate, ...] = ()
    manifests: bool = False
    signed: str = ""
    approval: str = ""
    hard_stop: bool = False

    @model_validator(mode="after")
    def _stands_somewhere(self) -> GateRules:
        if bool(self.before) == bool(self.after):
            raise ValueError("expected either `before` or `after`, with a wave")
        return self

    @property
    def wave(self) -> str:
        """The wave that it belongs to."""
        return self.before or self.after


class Team(_Strict):
    """A whole team; `name` is that of its file, and of its DAG behind `team_`."""

    name: str
    path: Path
    team: str
    title: str
    strategy: str
    leader: str
    waves: tuple[Wave, ...]
    roles: dict[str, Role]
    gates: dict[Gate, GateRules]
    lines: dict[str, int] = {}

    @model_validator(mode="after")
    def _hangs_together(self) -> Team:
        named = {code for wave in self.waves for code in wave.roles} | {self.leader}
        named |= {code for rules in self.gates.values() for code in (*rules.again, *rules.artifacts_of)}
        if strangers := sorted(named - self.roles.keys()):
            raise ValueError(f"waves and gates name the roles {', '.join(strangers)}, which the team has not")
        waves = {wave.wave for wave in self.waves}
        told = {wave for role in self.roles.values() for wave in (*role.artifacts, *role.evidence)}
        told |= {rules.wave for rules in self.gates.values()} | {w.beside for w in self.waves if w.beside}
        if strange := sorted(told - waves):
            raise ValueError(f"there are no waves {', '.join(strange)}; there are {', '.join(sorted(waves))}")
        for demand in (one for rules in self.gates.values() for one in rules.demands):
            if not _DEMAND.fullmatch(demand):
                raise ValueError(f"found the demand {demand!r}, expected such as 'pgtap failed = 0'")
        return self

    def wave(self, number: str) -> Wave:
        """Return a wave by its number."""
        return next(wave for wave in self.waves if wave.wave == number)

    @property
    def loop(self) -> Wave | None:
        """The wave in which work is done again while the gates of the one before it fail."""
        return next((wave for wave in self.waves if wave.attempts > 1), None)

    @property
    def thinkers(self) -> tuple[str, ...]:
        """Return the roles that may think with a model: those who build, and work again on what is refused; no judge is one."""
        if self.loop is None:
            return ()
        judges = {code for wave in self.waves if self.is_looped(wave.wave) for code in wave.roles}
        return tuple(code for code in self.loop.roles if code not in judges)

    def is_looped(self, wave: str) -> bool:
        """Say whether what a wave's gates refuse is mended in the loop: it is the wave right before it."""
        waves = [one.wave for one in self.waves]
        return self.loop is not None and waves.index(wave) == waves.index(self.loop.wave) - 1

    def judged_before(self, wave: str) -> list[Gate]:
        """Return the gates that judge before a wave's roles begin."""
        return [gate for gate, rules in self.gates.items() if rules.before == wave]

    def judged_after(self, wave: str) -> list[Gate]:
        """Return the gates that judge what a wave's roles have done, the one that is signed last."""
        return sorted(
            (g for g, rules in self.gates.items() if rules.after == wave), key=lambda g: bool(self.gates[g].signed)
        )

    def artifacts(self, code: str, wave: str) -> tuple[str, ...]:
        """Return what a role makes in a wave; in the loop, all that it has made before."""
        return self._in(self.roles[code].artifacts, wave)

    def evidence(self, code: str, wave: str) -> tuple[str, ...]:
        """Return the probes that a role runs in a wave; in the loop, all that it has run before."""
        return self._in(self.roles[code].evidence, wave)

    def takers(self, probe: str) -> list[tuple[str, str]]:
        """Return the roles that run a probe, each with the wave."""
        return [
            (code, wave)
            for code, role in self.roles.items()
            for wave, probes in role.evidence.items()
            if probe in probes
        ]

    def _in(self, told: dict[str, tuple[str, ...]], wave: str) -> tuple[str, ...]:
        if self.loop is None or wave != self.loop.wave:
            return told.get(wave, ())
        waves = [one.wave for one in self.waves]
        return tuple(one for earlier in waves[: waves.index(wave)] for one in told.get(earlier, ()))

    def demands(self, gate: Gate) -> list[Demand]:
        """Return what a gate asks for beside the strategy."""
        return [self._demand(text) for text in self.gates[gate].demands]

    def _demand(self, text: str) -> Demand:
        read = _DEMAND.fullmatch(text)
        assert read, text
        comparison: Comparison = read["comparison"]  # type: ignore[assignment]
        return Demand(
            read["probe"], read["figure"], Bound(comparison, Decimal(read["value"]), unit("")), self.lines[text]
        )


def folder(project: Path) -> Path:
    """Return where the teams' files lie."""
    return project / "teams"


def names(project: Path) -> list[str]:
    """Return the name of every team that there is."""
    return sorted(path.stem for path in folder(project).glob("*.yaml"))


def load(project: Path, name: str) -> Team:
    """Return a team, by the name of its file or the one that its strategy calls it.

    Raises:
        UsageError: there is none of that name, or its file does not say what a team's has to.
    """
    for path in sorted(folder(project).glob("*.yaml")):
        if name == path.stem or f"team: {name}\n" in path.read_text(encoding="utf-8"):
            return read(path)
    known = [f"{load(project, stem).team} ({stem})" for stem in names(project)]
    raise UsageError(f"found the team {name!r}, expected one of {', '.join(known)}")


def read(path: Path) -> Team:
    """Return the team that a file describes; raises UsageError when it does not describe one."""
    try:
        text = path.read_text(encoding="utf-8")
        told: dict[str, Any] = yaml.safe_load(text)
        for code, role in told["roles"].items():
            role["code"] = code
        lines = {line.strip().removeprefix("- "): number for number, line in enumerate(text.splitlines(), 1)}
        demands = [one for rules in told["gates"].values() for one in rules.get("demands", ())]
        return Team(name=path.stem, path=path, lines={one: lines[one] for one in demands}, **told)
    except (ValidationError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: found what no team can be made of: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{path}: expected a team, with roles, waves and gates as in teams/database.yaml; {error!r}"
        ) from error
