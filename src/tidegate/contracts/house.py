"""What this house asks of a contract beyond the standard, rule by rule; each finding names its line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tidegate.contracts.access import CLASSIFICATIONS
from tidegate.contracts.document import Document, Place, parse, read_text
from tidegate.contracts.lineage import Lineage
from tidegate.contracts.model import Contract
from tidegate.contracts.read import OPTION_RULES, contract_file, files, load_file
from tidegate.errors import ContractError
from tidegate.settings import Settings


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be: `place` is `schemas/flights.odcs.yaml:12`."""

    place: str
    sentence: str

    @classmethod
    def of(cls, error: ContractError, settings: Settings) -> Finding:
        """Return the finding that an error of reading a contract is."""
        place, _, sentence = str(error).removeprefix(f"{settings.project}/").partition(": ")
        return cls(place, sentence)

    def __str__(self) -> str:
        return f"{self.place}: {self.sentence}"


@dataclass(frozen=True)
class Subject:
    """One contract before its judges: as read, as written, and among the others."""

    contract: Contract
    document: Document
    all: Sequence[Contract]
    lineage: Lineage

    @property
    def properties(self) -> list[tuple[Place, dict[str, Any]]]:
        """Every column as written, with its place in the file."""
        written = self.document.content["schema"][0]["properties"]
        return [(("schema", 0, "properties", index), column) for index, column in enumerate(written)]


Judge = Callable[[Subject], Iterator[tuple[Place, str]]]


def findings(subject: Subject) -> list[Finding]:
    """Judge one contract by every rule, in the order of its lines."""
    found = [(subject.document.line(place), sentence) for judge in RULES for place, sentence in judge(subject)]
    return [Finding(f"{subject.contract.reference}:{line}", sentence) for line, sentence in sorted(found)]


def _described(subject: Subject) -> Iterator[tuple[Place, str]]:
    if not subject.contract.description:
        yield ("schema", 0), "the dataset has no description: say what it holds"
    if not subject.contract.grain:
        yield (
            ("schema", 0),
            "dataGranularityDescription is missing: say what one row is, as in `One row per order.`",
        )
    for place, column in subject.properties:
        words = str(column.get("description") or "").split()
        types = {column.get("logicalType"), column.get("physicalType"), column["name"]}
        if not words or (len(words) == 1 and words[0].strip(".").lower() in types):
            yield place, f"column {column['name']} has no description that says more than its name and type"


def _owned(subject: Subject) -> Iterator[tuple[Place, str]]:
    if not subject.contract.owner:
        yield ("team",), "no owner: `team: {name: …}` says whom to ask"


def _promised(subject: Subject) -> Iterator[tuple[Place, str]]:
    if subject.contract.freshness is None:
        yield ("slaProperties",), "no freshness: slaProperties needs `latency`, how late the data may be"
    if subject.contract.retention is None:
        yield ("slaProperties",), "no retention: slaProperties needs `retention`, how long the data are kept"
    if subject.contract.schema == "raw" and subject.contract.topic is None and subject.contract.frequency is None:
        yield ("slaProperties",), "no frequency: slaProperties needs `frequency`, how often a delivery comes"


def _made(subject: Subject) -> Iterator[tuple[Place, str]]:
    contract = subject.contract
    if contract.schema == "raw" and not contract.sources:
        yield ("servers",), "no source: `servers` says where deliveries come from"
    elif subject.lineage.producer(contract) is None:
        yield ("servers",), f"nothing makes {contract.dataset}: add transforms/{contract.dataset}.py"


def _enforced(subject: Subject) -> Iterator[tuple[Place, str]]:
    """Find promises that no gate holds: they are worse than none."""
    for place, column in subject.properties:
        for option in column.get("logicalTypeOptions") or {}:
            if option not in OPTION_RULES:
                where = (*place, "logicalTypeOptions", option)
                yield (
                    where,
                    f"nothing holds {option} of column {column['name']}; known are {', '.join(OPTION_RULES)}",
                )
        for index, rule in enumerate(column.get("quality") or []):
            if rule.get("metric") != "invalidValues" or not (rule.get("arguments") or {}).get("validValues"):
                yield (*place, "quality", index), _ELSEWHERE.format(f"of column {column['name']}")
    for index, _ in enumerate(subject.document.content["schema"][0].get("quality") or []):
        yield ("schema", 0, "quality", index), _ELSEWHERE.format("of the dataset")


_ELSEWHERE = "nothing holds this quality rule {}: contracts hold invalidValues; write it to expectations/"


def _referring(subject: Subject) -> Iterator[tuple[Place, str]]:
    known = {f"{contract.dataset}.{column.name}": column for contract in subject.all for column in contract.columns}
    for place, column in subject.properties:
        for index, link in enumerate(column.get("relationships") or []):
            if str(link.get("to")) not in known:
                where = (*place, "relationships", index)
                yield where, f"column {column['name']} refers to {link.get('to')}, which no contract here has"
            elif known[str(link.get("to"))].sealed:
                where = (*place, "relationships", index)
                yield (
                    where,
                    f"column {column['name']} refers to {link.get('to')}, whose values are sealed and never alike",
                )


def _classified(subject: Subject) -> Iterator[tuple[Place, str]]:
    """Find classifications that no mask knows: they are taken for confidential."""
    for place, column in subject.properties:
        word = column.get("classification")
        if word is not None and word not in CLASSIFICATIONS:
            known = ", ".join(CLASSIFICATIONS)
            yield (
                (*place, "classification"),
                f"no mask is known for classification {word!r} of column {column['name']}; known are {known}",
            )


def check(settings: Settings, datasets: Sequence[str] = ()) -> list[Finding]:
    """Judge the contracts of `datasets` (all, if none is named); an invalid one is a finding too.

    Raises:
        UsageError: there is no contract of that name.
    """
    wanted = [contract_file(settings, name) for name in datasets] or files(settings)
    found: list[Finding] = []
    contracts = []
    for path in files(settings):
        try:
            contracts.append(load_file(path, settings.home / "contracts"))
        except ContractError as error:
            if path in wanted:
                found.append(Finding.of(error, settings))
    lineage = Lineage(settings.project)
    for contract in contracts:
        if contract.path in wanted:
            document = parse(contract.path, read_text(contract.path))
            found += findings(Subject(contract, document, contracts, lineage))
    return found


RULES: tuple[Judge, ...] = (_described, _owned, _promised, _made, _enforced, _referring, _classified)
