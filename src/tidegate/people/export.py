"""Everything that is kept of one person, as a document to give to them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tidegate.contracts import Contract
from tidegate.people.person import Person, personal
from tidegate.people.reveal import reveal
from tidegate.settings import Settings


def export(settings: Settings, contracts: Iterable[Contract], person: Person) -> dict[str, Any]:
    """Return the person's rows by dataset, the same values from several places once; raises as `reveal` does.

    `not_searched` names datasets with personal columns, but not those by which the person is known here.
    """
    datasets: dict[str, list[dict[str, Any]]] = {}
    not_searched = []
    for contract in contracts:
        if not personal(contract):
            continue
        if not person.is_known_to(contract):
            not_searched.append(contract.dataset)
            continue
        rows: dict[str, dict[str, Any]] = {}
        for found in reveal(settings, contract, person, "export"):
            values = {name: value for name, value in found.row.items() if not name.startswith("_")}
            text = json.dumps(values, sort_keys=True, default=str)
            row = rows.setdefault(text, {"values": values, "kept_in": []})
            row["kept_in"].append(f"{found.place}, batch {found.batch_id}")
        if rows:
            datasets[contract.dataset] = list(rows.values())
    return {"taken_at": datetime.now(UTC).isoformat(), "datasets": datasets, "not_searched": not_searched}


def write(document: dict[str, Any], path: Path) -> None:
    """Write the document to a file that only its owner may read."""
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
