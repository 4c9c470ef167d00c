"""From an Open Data Contract Standard v3 file to a `Contract`; what is wrong is said with file and line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

from tidegate.contracts import types
from tidegate.contracts.document import Document, check_standard, parse, read_text
from tidegate.contracts.model import (
    LINEAGE_COLUMNS,
    Column,
    Contract,
    Grain,
    Partitioning,
    Rule,
    Source,
    Topic,
)
from tidegate.errors import UsageError
from tidegate.settings import Settings

SUFFIX = ".odcs.yaml"
_NAME = re.compile(r"^[a-z][a-z0-9_]{0,47}$")
_COLUMN = re.compile(r"^[a-z][a-z0-9_]{0,62}$")
_VERSION = re.compile(r"^\d+\.\d+\.\d+$")
_UNITS = {
    "s": 1, "second": 1, "seconds": 1,
    "m": 60, "min": 60, "minute": 60, "minutes": 60,
    "h": 3600, "hour": 3600, "hours": 3600,
    "d": 86400, "day": 86400, "days": 86400,
}  # fmt: skip
#: How long a delivery may keep us waiting: the longest month, the longest year.
_PERIODS = {**_UNITS, "week": 7 * 86400, "month": 31 * 86400, "quarter": 92 * 86400, "year": 366 * 86400}
#: Bytes of a message, where the contract does not say; brokers take as much by default.
_LARGEST_MESSAGE = 1_000_000
#: Rows of a stream that the gate judges, where the contract does not say.
_SAMPLE = 10_000
#: Parts of the contract's description that are kept for people to read.
ABOUT = ("purpose", "usage", "limitations")
#: What `logicalTypeOptions` may promise, and the kind of rule that holds it.
OPTION_RULES = {
    "minimum": "minimum",
    "maximum": "maximum",
    "pattern": "pattern",
    "minLength": "min_length",
    "maxLength": "max_length",
}


def load(settings: Settings, dataset: str) -> Contract:
    """Read the contract of `dataset` from `schemas/`.

    Raises:
        UsageError: there is no contract of that name.
        ContractError: the file is not a valid contract.
    """
    return load_file(contract_file(settings, dataset), settings.home / "contracts")


def contract_file(settings: Settings, dataset: str) -> Path:
    """Return the path of a dataset's contract.

    Raises:
        UsageError: there is no contract of that name.
    """
    path = settings.project / "schemas" / f"{dataset}{SUFFIX}"
    if not _NAME.match(dataset) or not path.is_file():
        known = ", ".join(found.name.removesuffix(SUFFIX) for found in files(settings)) or "none"
        raise UsageError(f"no dataset {dataset!r}: schemas/ has {known}; add schemas/NAME{SUFFIX}")
    return path


def load_all(settings: Settings) -> list[Contract]:
    """Read every contract in `schemas/`, in name order."""
    return [load_file(path, settings.home / "contracts") for path in files(settings)]


def files(settings: Settings) -> list[Path]:
    """Return the contract files in `schemas/`, in name order."""
    return sorted((settings.project / "schemas").glob(f"*{SUFFIX}"))


def load_file(path: Path, seen: Path | None = None) -> Contract:
    """Read one contract file; `seen` is a folder that remembers valid texts (see `check_standard`).

    Raises:
        ContractError: the file is missing, is not YAML, breaks the standard, or promises what cannot be kept.
    """
    return _read(path, read_text(path), seen)


@lru_cache(maxsize=256)
def _read(path: Path, text: str, seen: Path | None) -> Contract:
    document = parse(path, text)
    check_standard(document, text, seen)
    return _Reader(document).contract()


class _Reader:
    """Builds one `Contract`, keeping at hand where each value stands in the file."""

    def __init__(self, document: Document) -> None:
        self.path, self.document = document.path, document.content
        self.line, self.refuse = document.line, document.refuse

    def contract(self) -> Contract:
        document = self.document
        if not str(document["apiVersion"]).startswith("v3."):
            raise self.refuse(["apiVersion"], f"apiVersion {document['apiVersion']!r}: expected a version 3, as v3.1.0")
        objects = document.get("schema") or []
        if len(objects) != 1:
            raise self.refuse(["schema"], f"expected one schema object (a file, a dataset), found {len(objects)}")
        obj = objects[0]
        dataset = obj["name"]
        if not _NAME.match(dataset):
            raise self.refuse(["schema", 0, "name"], f"dataset name {dataset!r} must match {_NAME.pattern}")
        if self.path.name != dataset + SUFFIX:
            raise self.refuse(["schema", 0, "name"], f"dataset {dataset!r} must live in {dataset}{SUFFIX}")
        schema, _, table = str(obj.get("physicalName") or f"raw.{dataset}").partition(".")
        if table != dataset or schema not in ("raw", "core"):
            raise self.refuse(["schema", 0, "physicalName"], f"physicalName must be raw.{dataset} or core.{dataset}")
        properties = obj.get("properties") or []
        if not properties:
            raise self.refuse(["schema", 0], "a dataset needs at least one property")
        names = [p["name"] for p in properties]
        for index, name in enumerate(names):
            if name in LINEAGE_COLUMNS or not _COLUMN.match(name):
                raise self.refuse(
                    ["schema", 0, "properties", index], f"column name {name!r} must match {_COLUMN.pattern}"
                )
            if name in names[:index]:
                raise self.refuse(["schema", 0, "properties", index], f"column {name!r} is described twice")
        columns = tuple(self.column(p, ["schema", 0, "properties", i]) for i, p in enumerate(properties))
        self.check_tenant(columns)
        for index, prop in enumerate(properties):
            self.check_sealed(columns[index], prop, schema, ["schema", 0, "properties", index])
        keyed = sorted(
            ((p.get("primaryKeyPosition") or 0, p["name"]) for p in properties if p.get("primaryKey")),
        )
        key, partitioning = tuple(name for _, name in keyed), self.partitioning(properties, columns)
        if not _VERSION.match(str(document["version"])):
            raise self.refuse(["version"], f"version {document['version']!r} must be MAJOR.MINOR.PATCH, as in 1.0.0")
        about = document.get("description") or {}
        custom = self.custom(document)
        share = custom.get("maxRefusedShare", 0.0)
        own = enumerate(document.get("customProperties") or [])
        shared: list[str | int] = ["customProperties"]
        shared += (index for index, item in own if item["property"] == "maxRefusedShare")
        if not isinstance(share, int | float) or not 0 <= share <= 1:
            raise self.refuse(shared, f"maxRefusedShare must be from 0 to 1, found {share!r}")
        sla = {item["property"]: item for item in document.get("slaProperties") or []}
        latency = sla.get("latency") or sla.get("freshness")
        return Contract(
            dataset=dataset,
            version=str(document["version"]),
            path=self.path,
            schema=schema,
            table=table,
            description=(obj.get("description") or about.get("purpose") or "").strip(),
            grain=(obj.get("dataGranularityDescription") or "").strip(),
            owner=self.owner(),
            columns=columns,
            key=key,
            partitioning=partitioning,
            sources=tuple(self.source(s, i) for i, s in enumerate(document.get("servers") or [])),
            max_refused_share=float(share),
            freshness=self.duration(latency, _UNITS),
            frequency=self.duration(sla.get("frequency"), _PERIODS),
            retention=" ".join(str(sla["retention"].get(k, "")) for k in ("value", "unit"))
            if "retention" in sla
            else None,
            title=str(document.get("name") or dataset),
            about={part: str(about[part]).strip() for part in ABOUT if about.get(part)},
            refused_share_line=self.line(shared),
            key_line=next((c.line for c in columns if keyed and c.name == keyed[0][1]), 1),
            topic=self.topic(columns, key, partitioning),
            freshness_line=self.line(["slaProperties", document["slaProperties"].index(latency)]) if latency else 1,
        )

    def column(self, prop: Mapping[str, Any], where: list[str | int]) -> Column:
        name, logical = prop["name"], prop.get("logicalType") or "string"
        physical = types.postgres_type(logical, prop.get("physicalType"))
        if physical is None:
            raise self.refuse(
                [*where, "physicalType"],
                f"column {name!r}: {logical} as {prop.get('physicalType')} is not supported; use {types.supported()}",
            )
        here = self.line([*where, "name"])
        required = bool(prop.get("required") or prop.get("primaryKey"))
        rules = []
        if required:
            rules.append(Rule("required", (name,), True, self.line([*where, "required"])))
        if physical != "text":
            rules.append(Rule("type", (name,), physical, self.line([*where, "physicalType"])))
        for option, kind in OPTION_RULES.items():
            value = (prop.get("logicalTypeOptions") or {}).get(option)
            if value is not None:
                at = [*where, "logicalTypeOptions", option]
                if kind == "pattern":
                    self.check_pattern(str(value), at)
                rules.append(Rule(kind, (name,), value, self.line(at)))
        for index, quality in enumerate(prop.get("quality") or []):
            accepted = (quality.get("arguments") or {}).get("validValues")
            if quality.get("metric") == "invalidValues" and accepted:
                rules.append(Rule("accepted", (name,), tuple(accepted), self.line([*where, "quality", index])))
        if prop.get("unique"):
            rules.append(Rule("key", (name,), True, self.line([*where, "unique"])))
        links = prop.get("relationships") or []
        return Column(
            name=name,
            logical_type=logical,
            postgres_type=physical,
            duckdb_type=types.duckdb_type(physical),
            description=(prop.get("description") or "").strip(),
            required=required,
            line=here,
            rules=tuple(rules),
            unit=self.custom(prop).get("unit"),
            classification=prop.get("classification"),
            references=str(links[0]["to"]) if links else None,
            tags=tuple(map(str, prop.get("tags") or ())),
        )

    def check_tenant(self, columns: Sequence[Column]) -> None:
        found = [(index, column) for index, column in enumerate(columns) if "tenant" in column.tags]
        for index, column in found:
            where: list[str | int] = ["schema", 0, "properties", index]
            if len(found) > 1:
                named = ", ".join(column.name for _, column in found)
                raise self.refuse(where, f"a row belongs to one tenant, and {named} are tagged `tenant`: tag one")
            if not column.required or column.postgres_type != "text":
                raise self.refuse(where, f"tenant column {column.name!r} must be a required text")

    def check_sealed(self, column: Column, prop: Mapping[str, Any], schema: str, where: list[str | int]) -> None:
        """Refuse what nobody can hold of a column whose values look different each time they are written."""
        uses = {
            "primaryKey": "be part of the key",
            "unique": "be unique",
            "partitioned": "name partitions",
            "relationships": "refer to another dataset",
        }
        asked = [(part, words) for part, words in uses.items() if column.sealed and prop.get(part)]
        if column.sealed and "tenant" in column.tags:
            asked.append(("tags", "name tenants"))
        for part, words in asked:
            raise self.refuse(
                [*where, part],
                f"column {column.name!r} is {column.classification}, so its values are sealed and cannot {words}: "
                "classify it `restricted`, or let another column do that",
            )
        if column.sealed and schema != "raw":
            raise self.refuse(
                [*where, "classification"],
                f"column {column.name!r} is {column.classification}, and what a transform makes is written in plain before "
                "it lands: leave confidential columns to the delivered dataset",
            )

    def check_pattern(self, pattern: str, where: list[str | int]) -> None:
        try:
            re.compile(pattern)
        except re.error as error:
            raise self.refuse(where, f"pattern {pattern!r} is not a regular expression: {error}") from None

    def partitioning(self, properties: list[Any], columns: tuple[Column, ...]) -> Partitioning | None:
        marked = sorted(
            (p.get("partitionKeyPosition") or 0, i) for i, p in enumerate(properties) if p.get("partitioned")
        )
        if not marked:
            return None
        chosen, first = [columns[i] for _, i in marked], marked[0][1]
        found = Partitioning.by(
            [(column.name, column.logical_type) for column in chosen],
            self.custom(properties[first]).get("partitionGrain"),
        )
        if not all(column.required for column in chosen):
            raise self.refuse(["schema", 0], f"partition columns {', '.join(found.columns)} must be required")
        if found.grain not in (None, *get_args(Grain)):
            at: list[str | int] = ["schema", 0, "properties", first]
            raise self.refuse(at, f"partitionGrain must be year, month or day, found {found.grain!r}")
        return found

    def source(self, server: Mapping[str, Any], index: int) -> Source:
        location = server.get("path") or server.get("location") or ""
        options = {**self.custom(server)}
        known = ("delimiter", "host", "port", "database", "schema", "encoding")
        options.update({k: server[k] for k in known if server.get(k) is not None})
        kind = server["type"]
        if kind in ("local", "api", "s3", "gcs") and not location:
            raise self.refuse(["servers", index], f"server {server['server']!r} needs a path or a location")
        # The standard has no `format` for an address: there it is a custom property.
        form = server.get("format") or options.get("format") or "csv"
        return Source(server["server"], kind, location, str(form), options)

    def topic(self, columns: Sequence[Column], key: Sequence[str], partitioning: Partitioning | None) -> Topic | None:
        """Return the topic that the dataset's only server names, where that is Kafka; refuse what no stream can hold."""
        servers = self.document.get("servers") or []
        index = next((index for index, server in enumerate(servers) if server["type"] == "kafka"), None)
        if index is None:
            return None
        where: list[str | int] = ["servers", index]
        custom = self.custom(servers[index])
        if len(servers) > 1:
            raise self.refuse(where, "a dataset that is a stream has one source: leave the other `servers` away")
        if (form := servers[index].get("format") or "json") != "json":
            raise self.refuse(where, f"messages in {form} are not understood; expected `format: json`")
        if not key or not set(partitioning.columns if partitioning else ()) <= set(key):
            raise self.refuse(
                where,
                "a stream needs a key, by which a message that comes twice is known, and the columns that name a row's "
                "partition must be in it: mark them `primaryKey: true`",
            )
        event_time = str(custom.get("eventTime") or "")
        timed = next((column for column in columns if column.name == event_time), None)
        if timed is None or timed.postgres_type != "timestamptz" or not timed.required:
            raise self.refuse(
                where, f"eventTime must name a required column of type timestamptz, found {event_time or 'nothing'!r}"
            )
        hidden = next((c for c in columns if c.classification not in (None, "public") or "personal" in c.tags), None)
        if hidden is not None and "topicRetention" not in custom:
            raise self.refuse(
                where,
                f"column {hidden.name!r} is {hidden.classification or 'personal'}, and a topic keeps messages in plain, where neither "
                "keys nor erasure reach: say how long at the most (topicRetention, as `7 d`), or leave it out of the messages",
            )
        return Topic(
            name=str(custom.get("topic") or self.document["schema"][0]["name"]),
            event_time=event_time,
            lateness=self.span(custom.get("allowedLateness", "0 s"), "allowedLateness", where),
            max_message_bytes=self.count(custom.get("maxMessageBytes", _LARGEST_MESSAGE), "maxMessageBytes", where),
            sample=self.count(custom.get("sample", _SAMPLE), "sample", where),
            kept=self.span(custom["topicRetention"], "topicRetention", where) if "topicRetention" in custom else None,
        )

    def span(self, text: Any, name: str, where: list[str | int]) -> timedelta:
        """Read `2 d` or `90 minutes`."""
        number, _, unit = str(text).strip().partition(" ")
        seconds = _UNITS.get(unit.strip().lower())
        if seconds is None or not re.fullmatch(r"\d+(\.\d+)?", number):
            raise self.refuse(where, f"{name} needs a number and a unit, as `2 d`; found {text!r}")
        return timedelta(seconds=seconds * float(number))

    def count(self, value: Any, name: str, where: list[str | int]) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self.refuse(where, f"{name} must be a whole number, not below 0; found {value!r}")
        return int(value)

    def owner(self) -> str:
        team = self.document.get("team")
        if isinstance(team, dict):
            return str(team.get("name") or "")
        return str((team or [{}])[0].get("username") or "")

    def duration(self, item: Mapping[str, Any] | None, units: Mapping[str, int]) -> timedelta | None:
        if item is None:
            return None
        index = self.document["slaProperties"].index(item)
        unit = str(item.get("unit") or "").lower()
        seconds = units.get(unit) or units.get(unit.removesuffix("s"))
        if seconds is None or isinstance(item.get("value"), bool) or not isinstance(item.get("value"), int | float):
            raise self.refuse(
                ["slaProperties", index],
                f"{item['property']} needs a number and a unit of {', '.join(units)}",
            )
        return timedelta(seconds=seconds * item["value"])

    @staticmethod
    def custom(holder: Mapping[str, Any]) -> dict[str, Any]:
        return {item["property"]: item.get("value") for item in holder.get("customProperties") or []}
