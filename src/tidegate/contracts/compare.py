"""Compare two versions of a contract: each change with the rule that found it, and whom it breaks.

What a change does to the data that the contract permits is found by datacontract-cli's rules, and by ours
below where it has none. What that means to whom is one table, `_grade`: consumers are written against the
shape of a table, so a looser shape breaks them while looser values may surprise them; whoever produces is
broken by anything that refuses what was accepted before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tidegate.contracts.document import parse
from tidegate.contracts.model import Partitioning, is_sealed, partition_in_words, version_number
from tidegate.contracts.types import postgres_type, widens

Level = Literal["breaking", "warning", "compatible"]
#: How a change moves the set of data that the contract permits, in datacontract-cli's words.
Direction = Literal["tightens", "loosens", "both", "undetermined", "untested"]
_ORDER: tuple[Level, ...] = ("compatible", "warning", "breaking")


@dataclass(frozen=True)
class Change:
    """One difference between two versions: where, the rule that judged it, and its level for either side."""

    path: str
    rule: str
    message: str
    consumers: Level
    producers: Level

    @property
    def level(self) -> Level:
        """The graver of both levels."""
        return max(self.consumers, self.producers, key=_ORDER.index)


@dataclass(frozen=True)
class Comparison:
    """All changes from one version to the next, the gravest first."""

    old_version: str
    new_version: str
    changes: tuple[Change, ...]

    @property
    def breaking(self) -> bool:
        """Whether anything breaks somebody."""
        return any(change.level == "breaking" for change in self.changes)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        changes = [{**asdict(change), "level": change.level} for change in self.changes]
        return {
            "old": self.old_version,
            "new": self.new_version,
            "breaking": self.breaking,
            "changes": changes,
        }


@dataclass(frozen=True)
class _Found:
    """What a rule says of one entry of the changelog; the form that datacontract-cli's detector expects."""

    rule_id: str
    direction: Any
    message: str


@dataclass(frozen=True)
class HouseRule:
    """One rule that datacontract-cli lacks, or judges by other lights than this house does."""

    rule_id: str
    judge: Callable[[Any, dict[str, Any], dict[str, Any]], tuple[Direction, str] | None]

    def evaluate(self, entry: Any, before: dict[str, Any], after: dict[str, Any]) -> _Found | None:
        """Return what the rule says of a changelog entry, or None if it is no business of it."""
        from datacontract.model.breaking import Direction as TheirDirection

        found = self.judge(entry, before, after)
        return _Found(self.rule_id, TheirDirection(found[0]), found[1]) if found else None


def compare(old: Path, old_text: str, new: Path, new_text: str) -> Comparison:
    """Compare two texts of one contract; the paths only name them in errors.

    Raises:
        ContractError: one of them is not YAML.
    """
    from datacontract.breaking.detector import BreakingChangeDetector
    from datacontract.breaking.rules import DEFAULT_RULES
    from datacontract.data_contract import DataContract
    from datacontract.model.breaking import Perspective
    from open_data_contract_standard.model import OpenDataContractStandard

    contents = [parse(path, text).content for path, text in ((old, old_text), (new, new_text))]
    before, after = (OpenDataContractStandard.model_validate(content) for content in contents)
    result = DataContract(data_contract=before).breaking(
        DataContract(data_contract=after),
        BreakingChangeDetector((*HOUSE_RULES, *DEFAULT_RULES)),
        perspective=Perspective.CONSUMER,
    )
    found = {
        # One change of the partition shows at several places of the file, in the same words.
        (entry.rule_id, entry.message): Change(
            entry.path, entry.rule_id, entry.message, *_grade(entry.rule_id, entry.direction.value)
        )
        for entry in result.entries
        if entry.direction is not None and entry.path != "version"
    }
    changes = list(found.values())
    changes += _version(str(contents[0]["version"]), str(contents[1]["version"]), changes)
    changes.sort(key=lambda change: (-_ORDER.index(change.level), change.path))
    return Comparison(str(contents[0]["version"]), str(contents[1]["version"]), tuple(changes))


#: Rules about the shape of a table; what loosens one of these breaks its consumers.
_SHAPE = {
    "schema-added-or-removed",
    "property-added-or-removed",
    "physical-name-changed",
    "type-changed",
    "key-constraint-changed",
    "unique-constraint-changed",
}


def _grade(rule: str, direction: Direction) -> tuple[Level, Level]:
    """Return the level for consumers and for producers."""
    match direction:
        case "both":
            return "breaking", "breaking"
        case "tightens":
            return "compatible", "breaking"
        case "loosens":
            return ("breaking" if rule in _SHAPE else "warning"), "compatible"
        case "undetermined":
            return "warning", "warning"
    return "compatible", "compatible"


def _version(old: str, new: str, changes: list[Change]) -> list[Change]:
    """Judge the version's step: major where changes break, minor where they are felt, patch otherwise."""
    worst = max((change.level for change in changes), key=_ORDER.index, default="compatible")
    felt = worst == "warning" or any(change.rule == "nullable-property-added" for change in changes)
    part = 0 if worst == "breaking" else 1 if felt else 2
    if not changes or version_number(new)[: part + 1] > version_number(old)[: part + 1]:
        return []
    words = f"The version goes from {old} to {new}; these changes need a higher {_PARTS[part]} number"
    level: Level = "warning" if part == 2 else "breaking"
    return [Change("version", "version-not-raised", words, level, level)]


_PARTS = ("major", "minor", "patch")


def _path(entry: Any) -> list[str]:
    return str(entry.path).split(".")


def _properties(tree: dict[str, Any], path: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = ((tree.get("schema") or {}).get(path[1]) or {}).get("properties") or {}
    return found


def _is_property(path: list[str]) -> bool:
    return len(path) == 4 and path[0] == "schema" and path[2] == "properties"


def _nullable_property_added(entry: Any, before: dict[str, Any], after: dict[str, Any]) -> tuple[Direction, str] | None:
    path = _path(entry)
    if not _is_property(path) or entry.type.value != "added":
        return None
    added = _properties(after, path)[path[3]]
    if added.get("required") or added.get("primaryKey") or _heir_of(path, before, after):
        return None
    return "untested", f"Added column {path[3]}, which may be empty; deliveries must name it from now on"


def _heir_of(path: list[str], before: dict[str, Any], after: dict[str, Any]) -> str | None:
    """Return the column that the one at `path` replaces under a new name: same type, same place."""
    old, new = _properties(before, path), _properties(after, path)
    place = list(new).index(path[3])
    if place >= len(old):
        return None
    name = list(old)[place]
    same = all(old[name].get(part) == new[path[3]].get(part) for part in ("logicalType", "physicalType"))
    return name if name not in new and same else None


def _property_renamed(entry: Any, before: dict[str, Any], after: dict[str, Any]) -> tuple[Direction, str] | None:
    path = _path(entry)
    if not _is_property(path) or entry.type.value != "added":
        return None
    old = _heir_of(path, before, after)
    return ("both", f"Renamed column {old} to {path[3]}") if old else None


def _type_widened(entry: Any, before: dict[str, Any], after: dict[str, Any]) -> tuple[Direction, str] | None:
    path = _path(entry)
    if len(path) != 5 or path[2] != "properties" or path[4] not in ("physicalType", "logicalType"):
        return None
    old, new = (_properties(tree, path).get(path[3]) or {} for tree in (before, after))
    spelled = [
        postgres_type(column.get("logicalType") or "string", column.get("physicalType")) for column in (old, new)
    ]
    if spelled[0] is None or spelled[1] is None or old.get("logicalType") != new.get("logicalType"):
        return None
    if spelled[0] == spelled[1]:
        return "untested", f"Column {path[3]} is spelled otherwise, and still {spelled[1]}"
    if widens(spelled[0], spelled[1]):
        return "loosens", f"Widened column {path[3]} from {spelled[0]} to {spelled[1]}"
    return None


def _partition_changed(entry: Any, before: dict[str, Any], after: dict[str, Any]) -> tuple[Direction, str] | None:
    path = _path(entry)
    inside = path[0] == "schema" and path[2:3] == ["properties"] and len(path) >= 5
    if not inside or not (path[4] in ("partitioned", "partitionKeyPosition") or "partitionGrain" in path):
        return None
    old, new = (_partition(_properties(tree, path)) for tree in (before, after))
    if old == new:
        return "untested", "What a partition is stays, spelled otherwise"
    return "both", f"Changed what a partition is, from {old} to {new}"


def _partition(properties: dict[str, Any]) -> str:
    marked = [(c.get("partitionKeyPosition") or 0, name) for name, c in properties.items() if c.get("partitioned")]
    names = [name for _, name in sorted(marked, key=lambda found: found[0])]
    if not names:
        return partition_in_words(None)
    declared = ((properties[names[0]].get("customProperties") or {}).get("partitionGrain") or {}).get("value")
    columns = [(name, properties[name].get("logicalType") or "string") for name in names]
    return partition_in_words(Partitioning.by(columns, declared))


def _source_changed(entry: Any, before: dict[str, Any], after: dict[str, Any]) -> tuple[Direction, str] | None:
    path = _path(entry)
    if path[0] != "servers" or len(path) < 3 or path[2] == "description":
        return None
    if path[1] not in (before.get("servers") or {}) or path[1] not in (after.get("servers") or {}):
        return None
    part = ".".join(path[2:]).removeprefix("customProperties.").removesuffix(".value")
    return (
        "tightens",
        f"Changed how {path[1]} is delivered: {part} from {entry.old_value!r} to {entry.new_value!r}",
    )


def _refused_share_changed(entry: Any, before: dict[str, Any], after: dict[str, Any]) -> tuple[Direction, str] | None:
    if _path(entry)[:2] not in (["customProperties"], ["customProperties", "maxRefusedShare"]):
        return None
    old, new = (_share(tree) for tree in (before, after))
    if old == new:
        return None
    return (
        "tightens" if new < old else "loosens",
        f"Share of rows that may be refused goes from {old} to {new}",
    )


def _share(tree: dict[str, Any]) -> float:
    return float(((tree.get("customProperties") or {}).get("maxRefusedShare") or {}).get("value") or 0)


def _promise_changed(entry: Any, _before: dict[str, Any], _after: dict[str, Any]) -> tuple[Direction, str] | None:
    path = _path(entry)
    if path[:1] != ["slaProperties"] or path[1:2] not in (["latency"], ["retention"], ["frequency"]):
        return None
    if path[2:3] not in ([], ["value"], ["unit"]):
        return None
    return "undetermined", f"Changed the promise of {path[1]} from {entry.old_value!r} to {entry.new_value!r}"


def _classification_changed(
    entry: Any, _before: dict[str, Any], _after: dict[str, Any]
) -> tuple[Direction, str] | None:
    path = _path(entry)
    if len(path) != 5 or path[2] != "properties" or path[4] != "classification":
        return None
    words = f"Changed who may see column {path[3]}: {entry.old_value or 'open'} to {entry.new_value or 'open'}"
    if is_sealed(entry.old_value) != is_sealed(entry.new_value):
        return "both", f"{words}; its values are {'sealed' if is_sealed(entry.new_value) else 'in plain'} from then on"
    return "undetermined", words


HOUSE_RULES: tuple[HouseRule, ...] = (
    HouseRule("property-renamed", _property_renamed),
    HouseRule("nullable-property-added", _nullable_property_added),
    HouseRule("type-widened", _type_widened),
    HouseRule("partition-changed", _partition_changed),
    HouseRule("source-changed", _source_changed),
    HouseRule("refused-share-changed", _refused_share_changed),
    HouseRule("promise-changed", _promise_changed),
    HouseRule("classification-changed", _classification_changed),
)
