"""Where deliveries come from: one module a kind of ODCS server; each hands over files under the spool."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tidegate.contracts import Contract, Source
from tidegate.errors import ContractError
from tidegate.ingest.delivery import Delivery
from tidegate.ingest.sources import http, local, postgres
from tidegate.settings import Settings

Fetch = Callable[[Settings, Contract, Source, str, Path], Delivery]

#: ODCS server type → the module that reads it; a topic (`kafka`) will stand here too.
_KINDS: dict[str, Fetch] = {"local": local.fetch, "api": http.fetch, "postgres": postgres.fetch}


def fetch(settings: Settings, contract: Contract, source: Source, partition: str, spool: Path) -> Delivery:
    """Fetch the delivery of one partition from the contract's source.

    Raises:
        ContractError: no module handles a server of that type.
        SourceError: the source has no such delivery, or it is damaged.
        UnavailableError: the source does not answer.
    """
    kind = _KINDS.get(source.type)
    if kind is None:
        raise ContractError(
            f"{contract.reference}: server {source.name!r} is of type {source.type!r}; "
            f"ingest reads {', '.join(sorted(_KINDS))}"
        )
    return kind(settings, contract, source, partition, spool)
