"""Whether contracts are sound, agree with the published tables, and with what is derived from them."""

from __future__ import annotations

from collections.abc import Iterator

from tidegate.contracts import derived, house, load_all
from tidegate.errors import ContractError
from tidegate.evidence.probe import Finding, Ground
from tidegate.publish import evolve
from tidegate.stores.postgres import connect


def contracts(ground: Ground) -> Iterator[Finding]:
    """Check every contract: its form, its table in the warehouse, and the files that follow from it."""
    settings = ground.settings
    found, known = house.check(settings, ()), 0
    try:
        all_of_them = load_all(settings)
        known = len(all_of_them)
        with connect(settings) as connection:
            found += evolve.refusals(connection, settings, all_of_them)
        found += derived.stale(settings)
    except ContractError as invalid:
        found.append(house.Finding.of(invalid, settings))
    told = [str(one) for one in dict.fromkeys(found)]
    figures = {"contracts": known, "findings": len(told)}
    text = "\n".join(told) or f"{known} contracts are sound, and what is derived from them is current"
    yield Finding("tests/static/contract_check.log", text, figures, "tidegate contract check", int(bool(told)))
