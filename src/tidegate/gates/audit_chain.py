"""Whether the audit is whole: every line as it was written, none gone, none in between, nothing unwatched."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from tidegate.contracts import Contract, access
from tidegate.gates import audit
from tidegate.gates.audit import Finding, Seal
from tidegate.settings import Settings
from tidegate.stores.postgres import Connection, connect


@dataclass(frozen=True)
class Report:
    """What `verify` found: `findings` are traces of tampering, `unwatched` tables whose writes leave no line.

    `ddl` tells whether commands that change the schema are recorded, whoever gives them. `notes` ask for no deed.
    """

    lines: int
    head: str
    findings: tuple[Finding, ...]
    unwatched: tuple[str, ...]
    ddl: bool
    notes: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Return whether nothing has been tampered with, and no table is left out."""
        return not self.findings and not self.unwatched


def verify(settings: Settings, contracts: Iterable[Contract]) -> Report:
    """Read the whole chain again and compare it with where it ended when it was last found whole.

    That end is kept beside the warehouse (`HOME/audit`): who cuts lines off the end, or writes a whole new chain, would
    otherwise leave no trace.

    Raises:
        UnavailableError: the warehouse does not answer.
    """
    with connect(settings) as connection:
        timeline = _timeline(connection)
        known = _Anchor.load(settings.home, timeline)
        count, last, findings = _walk(connection, known)
        report = Report(
            count,
            last.sha256,
            findings,
            unwatched(connection, contracts),
            records_ddl(connection),
            _notes(known, timeline),
        )
    if not findings and last.place:
        _Anchor(timeline, last).save(settings.home)
    return report


def _walk(connection: Connection, known: _Anchor | None) -> tuple[int, Seal, tuple[Finding, ...]]:
    findings: list[Finding] = []
    count, last = 0, Seal(0, 0, "")
    for seal, line in audit.chain(connection):
        if seal is None:
            assert line is not None
            findings.append(Finding(None, line.audit_id, f"{line} was put in without a place in the chain"))
            continue
        if seal.place != last.place + 1:
            gone = f"the places {last.place + 1} to {seal.place - 1} of the chain are gone, before line {seal.audit_id}"
            findings.append(Finding(seal.place, seal.audit_id, gone))
        if line is None:
            findings.append(Finding(seal.place, seal.audit_id, f"line {seal.audit_id} is gone from place {seal.place}"))
        else:
            count += 1
            if seal.place == last.place + 1 and audit.digest(line, seal.place, last.sha256) != seal.sha256:
                findings.append(Finding(seal.place, line.audit_id, f"{line} is not what was written, or not where"))
        if known and seal.place == known.seal.place and seal != known.seal:
            findings.append(
                Finding(seal.place, seal.audit_id, f"the chain up to line {seal.audit_id} is another one than before")
            )
        last = seal
    if known and last.place < known.seal.place:
        cut = f"the lines after place {last.place} are gone: the chain once went on to line {known.seal.audit_id}"
        findings.append(Finding(known.seal.place, known.seal.audit_id, cut))
    return count, last, tuple(findings)


@dataclass(frozen=True)
class _Anchor:
    """Where the chain ended when it was last found whole, on one timeline of the server: a restore begins another."""

    timeline: int
    seal: Seal

    def save(self, home: Path) -> None:
        path = self.path(home, self.timeline)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self.seal)) + "\n")
        partial.replace(path)

    @classmethod
    def load(cls, home: Path, timeline: int) -> _Anchor | None:
        path = cls.path(home, timeline)
        return cls(timeline, Seal(**json.loads(path.read_text()))) if path.is_file() else None

    @staticmethod
    def path(home: Path, timeline: int) -> Path:
        return home / "audit" / f"head-{timeline}.json"


def _timeline(connection: Connection) -> int:
    row = connection.execute("SELECT pg_walfile_name(pg_current_wal_lsn()) AS name").fetchone()
    assert row is not None
    return int(row["name"][:8], 16)


def _notes(known: _Anchor | None, timeline: int) -> tuple[str, ...]:
    if known is None and timeline > 1:
        return (
            "the server was restored or promoted, and this is the first look since: the end of the chain is taken as it is",
        )
    return ()


def unwatched(connection: Connection, contracts: Iterable[Contract]) -> tuple[str, ...]:
    """Return the tables with classified columns, published or waiting or archived, whose writes leave no line."""
    names = {contract.dataset: contract for contract in contracts if access.is_watched(contract)}
    rows = connection.execute(
        """
        WITH dataset AS (SELECT * FROM unnest(%(schemas)s::text[], %(tables)s::text[], %(datasets)s::text[]) AS d (s, t, name)),
        held AS (
            SELECT c.oid FROM dataset JOIN pg_class AS c ON c.oid = to_regclass(format('%%I.%%I', s, t))
            UNION SELECT inhrelid FROM dataset JOIN pg_inherits ON inhparent = to_regclass(format('%%I.%%I', s, t))
            UNION SELECT c.oid FROM dataset JOIN ops.batch AS b ON b.dataset = name AND b.state <> 'landed'
            JOIN pg_class AS c ON c.relkind = 'r' AND starts_with(c.relname, left(b.dataset, 24) || '__')
                AND c.relname LIKE '%%\\_\\_' || b.batch_id
        )
        SELECT held.oid::regclass::text AS name FROM held
        WHERE (SELECT count(*) FROM pg_trigger WHERE tgrelid = held.oid AND tgname = ANY(%(watches)s) AND tgenabled <> 'D') < %(all)s
        ORDER BY 1
        """,
        {
            "schemas": [contract.schema for contract in names.values()],
            "tables": [contract.table for contract in names.values()],
            "datasets": list(names),
            "watches": [name for name, _, _ in access.WATCHES],
            "all": len(access.WATCHES),
        },
    ).fetchall()
    return tuple(row["name"] for row in rows)


def records_ddl(connection: Connection) -> bool:
    """Return whether every command that changes the schema leaves a line, whoever gives it (migrations/audit.sql)."""
    row = connection.execute(
        "SELECT count(*) = 2 AS found FROM pg_event_trigger WHERE evtname IN ('audit_ddl', 'audit_drop') AND evtenabled <> 'D' "
        "AND evtfoid = to_regproc('ops.audit_ddl')"
    ).fetchone()
    return bool(row and row["found"])
