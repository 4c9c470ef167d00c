"""What a gate says: the measured value, the target, where the target is written, and the verdict."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

Decision = Literal["PASS", "WARN", "FAIL"]


@dataclass(frozen=True)
class Evidence:
    """A file that a program has just written: its hash and the figures it holds.

    `command`, `seconds` and `exit_status` tell of a program that was run to measure it, where there was one.
    """

    kind: str
    path: Path
    sha256: str
    figures: dict[str, Any]
    command: str | None = None
    seconds: float | None = None
    exit_status: int | None = None

    @classmethod
    def write(cls, kind: str, path: Path, document: dict[str, Any], figures: dict[str, Any]) -> Evidence:
        """Write `document` as JSON to `path` and return it as evidence."""
        content = json.dumps(document, indent=1, sort_keys=True, default=str).encode()
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_bytes(content)
        partial.replace(path)
        return cls(kind, path, hashlib.sha256(content).hexdigest(), figures)


@dataclass(frozen=True)
class Verdict:
    """One rule of one gate, decided."""

    gate: str
    rule: str
    verdict: Decision
    value: str
    target: str
    target_source: str
    rule_set_version: str
    """Of what decided: a contract's version, the hash of a suite's rules, or this package's own version."""
    evidence_sha256: str | None = None

    @property
    def told(self) -> str:
        """The rule, what was found and what was expected, in one sentence; where that is written is not in it."""
        return f"{self.rule}: {self.value}, expected {self.target}"

    def on(self, evidence: Evidence) -> Verdict:
        """Return the same verdict, resting on that evidence."""
        return replace(self, evidence_sha256=evidence.sha256)


def counted(path: Path, figures: dict[str, Any], verdicts: Iterable[Verdict]) -> tuple[list[Verdict], list[Evidence]]:
    """Write figures that were just counted to `path`, and return the verdicts resting on that evidence, with it."""
    evidence = Evidence.write("count", path, figures, figures)
    return [verdict.on(evidence) for verdict in verdicts], [evidence]


def written_in(rule: Callable[..., Any]) -> str:
    """Return the file and line of the function that holds a rule which no contract and no suite states."""
    return f"src/{rule.__module__.replace('.', '/')}.py:{rule.__code__.co_firstlineno}"


def reason_to_hold(verdicts: Iterable[Verdict]) -> str | None:
    """Say what failed, in one sentence for whoever decides; None where nothing did."""
    failed = [v.told for v in verdicts if v.verdict == "FAIL"]
    return "; ".join(failed) or None


def evidence_folder(home: Path, dataset: str, subject: str) -> Path:
    """Return where the evidence on one batch or build is kept."""
    return home / "evidence" / dataset / subject


def worst(verdicts: Iterable[Verdict]) -> Decision:
    """Return the gravest decision; PASS where there is none."""
    order: list[Decision] = ["PASS", "WARN", "FAIL"]
    return max((v.verdict for v in verdicts), key=order.index, default="PASS")
