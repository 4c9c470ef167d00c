"""What there is to do: deliveries in the inbox that the ledger has not seen to their end."""

from __future__ import annotations

from dataclasses import dataclass

from tidegate.contracts import Contract, load_all
from tidegate.contracts.model import WHOLE
from tidegate.gates import ledger
from tidegate.ingest.delivery import joined, sha256_of
from tidegate.ingest.sources.local import available, delivered
from tidegate.settings import Settings
from tidegate.stores.postgres import connect


@dataclass(frozen=True)
class Due:
    """The partitions of one dataset that wait in the inbox, and the datasets that its rows refer to."""

    contract: Contract
    partitions: tuple[str, ...]
    refers_to: frozenset[str]


def due(settings: Settings) -> list[Due]:
    """Return what waits in the inbox, by the content of its files: a delivery seen before is not due."""
    contracts = {
        contract.dataset: contract
        for contract in load_all(settings)
        if contract.schema == "raw" and contract.sources and contract.sources[0].type == "local"
    }
    with connect(settings) as connection:
        settled = {
            (batch.dataset, batch.partition, batch.contract_version, batch.source_sha256)
            for batch in ledger.batches(connection)
            if batch.state not in ledger.UNDER_WAY
        }
    found = []
    for contract in contracts.values():
        partitions = tuple(
            partition
            for partition, content in _delivered(settings, contract).items()
            if (contract.dataset, partition, contract.version, content) not in settled
        )
        refers_to = {column.references.split(".")[0] for column in contract.columns if column.references}
        if partitions:
            others = frozenset(refers_to & contracts.keys() - {contract.dataset})
            found.append(Due(contract, partitions, others))
    return found


def _delivered(settings: Settings, contract: Contract) -> dict[str, str]:
    """Return the hash of what the inbox holds, by partition: that of the delivery it would be."""
    source = contract.sources[0]
    names = available(settings, source) if contract.partitioning else [WHOLE]
    found = {}
    for name in names:
        if files := delivered(settings, source, name):
            found[name] = joined(map(sha256_of, files))
    return found
