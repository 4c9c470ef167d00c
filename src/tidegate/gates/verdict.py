"""What a gate says: the measured value, the target, where the target is written, and the verdict."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

Decision = Literal["PASS", "WARN", "FAIL"]


@dataclass(frozen=True)
class Evidence:
    """A file that a program has just written: its hash and the figures it holds."""

    kind: str
    path: Path
    sha256: str
    figures: dict[str, Any]

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
    """Of what decided: a contract's version, or the hash of a suite's rules."""
    evidence_sha256: str | None = None

    def on(self, evidence: Evidence) -> Verdict:
        """Return the same verdict, resting on that evidence."""
        return replace(self, evidence_sha256=evidence.sha256)


def evidence_folder(home: Path, dataset: str, subject: str) -> Path:
    """Return where the evidence on one batch or build is kept."""
    return home / "evidence" / dataset / subject


def worst(verdicts: Iterable[Verdict]) -> Decision:
    """Return the gravest decision; PASS where there is none."""
    order: list[Decision] = ["PASS", "WARN", "FAIL"]
    return max((v.verdict for v in verdicts), key=order.index, default="PASS")
