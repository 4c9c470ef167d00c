"""The dbt sources of every published table, derived from contracts: descriptions and freshness."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import yaml

from tidegate.contracts.dictionary import LINEAGE
from tidegate.contracts.lineage import Lineage
from tidegate.contracts.model import Contract

_HEAD = "# Derived from schemas/ by `tidegate contract docs`: change the contract, not this file.\n"
_SOURCES = {
    "raw": "Published batches of delivered datasets, in the columns of their source files.",
    "core": "Published outputs of the Spark transforms.",
}


def sources_yaml(contracts: Sequence[Contract], lineage: Lineage) -> str:
    """Return `models/staging/_sources.yml`."""
    by_name = {contract.dataset: contract for contract in contracts}
    sources = [
        {
            "name": schema,
            "description": description,
            "schema": schema,
            "tables": [_table(c, by_name, lineage) for c in contracts if c.schema == schema],
        }
        for schema, description in _SOURCES.items()
        if any(c.schema == schema for c in contracts)
    ]
    document = {"version": 2, "sources": sources}
    return _HEAD + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)


def _table(contract: Contract, by_name: dict[str, Contract], lineage: Lineage) -> dict[str, Any]:
    described = [{"name": c.name, "description": c.told} for c in contract.columns]
    described += [{"name": name, "description": words} for name, words in LINEAGE.items()]
    config: dict[str, Any] = {}
    if contract.topic is None:
        # A stream is as old as the oldest message that waits, which no query of the warehouse tells.
        config["loaded_at_query"] = (
            f"select max(published_at) from ops.batch where dataset = '{contract.dataset}' and state = 'published'"
        )
    longest = longest_silence(contract, by_name, lineage)
    if longest is not None:
        hours = math.ceil(longest / timedelta(hours=1))
        count, period = (hours // 24, "day") if hours % 24 == 0 else (hours, "hour")
        config["freshness"] = {"warn_after": {"count": count, "period": period}}
    return {
        "name": contract.table,
        "description": f"{contract.description} {contract.grain}".strip(),
        **({"config": config} if config else {}),
        "columns": described,
    }


def longest_silence(contract: Contract, by_name: dict[str, Contract], lineage: Lineage) -> timedelta | None:
    """Return how long after a publish the next one comes at the latest; None where nothing is promised.

    A delivered dataset comes once an interval and may be late by its latency; what a transform makes waits
    for the last of its inputs, and then for its own latency. A stream may be silent for as long as nothing happens.
    """
    if contract.freshness is None or contract.topic is not None:
        return None
    if contract.frequency is not None:
        return contract.frequency + contract.freshness
    inputs = [by_name[name] for name in lineage.inputs(contract.dataset) if name in by_name]
    waits = [wait for c in inputs if (wait := longest_silence(c, by_name, lineage)) is not None]
    return max(waits) + contract.freshness if waits else None
