"""A few rows for every table that there is, whichever migrations have made it."""

from __future__ import annotations

from typing import Any

import psycopg

#: Table → rows to put in, in an order that foreign keys allow; columns that a revision lacks are left away.
_ROWS: dict[str, list[dict[str, Any]]] = {
    "ops.batch": [
        {
            "batch_id": name, "dataset": "orders", "partition": "2024-03", "state": state, "contract_version": "1.0.0",
            "source": f"{name}.csv", "source_name": f"{name}.csv", "source_sha256": "0" * 64, "landing_url": f"/landing/{name}.parquet",
            "delivered_count": 3, "accepted_count": 2, "refused_count": 1, "published_schema": "raw",
            "previous_batch_id": before,
        }
        for name, state, before in (("one", "superseded", None), ("two", "published", "one"), ("three", "held", None))
    ],
    "ops.step": [{"subject": "two", "step": "land", "started_at": "2024-03-01", "seconds": 1.5, "row_count": 3}],
    "ops.evidence": [{"evidence_sha256": "e1", "kind": "count", "path": "evidence/e1.json", "figures": '{"rows": 3}'}],
    "ops.verdict": [
        {
            "subject": "two", "dataset": "orders", "partition": "2024-03", "gate": "contract", "rule": "refused rows",
            "verdict": "WARN", "value": "1 of 3", "target": "at most 50 %", "target_source": "schemas/orders:1",
            "evidence_sha256": "e1", "rule_set_version": "1.0.0",
        }
    ],
    "ops.decision": [{"subject": "one", "action": "release", "decided_by": "ada", "why": "seen"}],
    "ops.marts_build": [
        {"build_id": "first", "state": "superseded", "inputs": "{}"},
        {"build_id": "second", "state": "published", "inputs": "{}"},
        {"build_id": "third", "state": "judged", "inputs": "{}"},
    ],
    "ops.marts_swap": [{"swap_id": 1, "build_id": "first"}, {"swap_id": 2, "build_id": "second"}],
    "ops.backup": [
        {
            "backup_id": name, "kind": kind, "tool": "pgbackrest", "cluster": "7", "timeline": 1, "start_lsn": "0/2000028",
            "stop_lsn": "0/2000100", "started_at": "2024-03-01", "ended_at": "2024-03-02", "bytes": 1, "based_on": base,
        }
        for name, kind, base in (("a-full", "full", None), ("b-incremental", "incremental", "a-full"))
    ],
    "ops.encryption_key": [{"key_id": "k1", "check_value": "00c0ffee"}],
    "ops.fence": [{"subject": "batch two", "token": 7, "holder": "host 1 2.0 a"}],
    "ops.erasure": [
        {"erasure_id": "e1", "columns": ["email"], "digests": ["00"], "key_id": "k1", "asked_by": "ada", "why": "asked"}
    ],
    "ops.audit": [{"action": "insert", "object": "raw.bookings", "row_count": n} for n in (1, 2)],
    "ops.table_layout": [{"dataset": "orders", "contract_version": "1.0.0", "columns": "[]", "key_columns": "{}"}],
    "ops.delivery": [
        {
            "delivery_id": "d1", "team": "database", "strategy": "strategies/database.md", "strategy_sha256": "00",
            "code_version": "c0ffee", "state": "waiting", "wave": "4", "started_by": "ada", "dag_run_id": "manual__1",
        }
    ],
    "ops.delivery_work": [
        {"delivery_id": "d1", "wave": "2", "role": "PG", "attempt": 1, "state": "done", "artifacts": '{"INDEXES.md": "00"}'}
    ],
    "ops.delivery_evidence": [
        {"delivery_id": "d1", "wave": "2", "role": "PG", "attempt": 1, "probe": "version", "path": "pg/version.log", "evidence_sha256": "e1"}
    ],
    "ops.approval": [
        {
            "delivery_id": "d1", "kind": "cost", "subject": "COST_ESTIMATION.md", "sha256": "00", "decision": "approve",
            "decided_by": "bob", "why": "read",
        }
    ],
    "ops.release": [
        {
            "version": "0.19.0", "delivery_id": "d1", "state": "begun", "code_version": "c0ffee", "from_revision": "0018",
            "to_revision": "0019",
        }
    ],
    "ops.stream_offset": [
        {"dataset": "parcel", "topic_partition": n, "topic": "parcels", "topic_incarnation": "i1", "next_offset": 3} for n in (0, 1)
    ],
    "ops.stream_batch": [
        {
            "batch_id": "m1", "dataset": "parcel", "topic": "parcels", "topic_incarnation": "i1", "contract_version": "1.0.0",
            "message_count": 3, "row_count": 1, "known_count": 1, "refused_count": 1, "late_count": 0, "message_bytes": 90,
            "taking_seconds": 0.5,
        }
    ],
    "ops.stream_range": [{"batch_id": "m1", "topic_partition": 0, "first_offset": 0, "next_offset": 3}],
    "ops.stream_partition": [{"dataset": "parcel", "partition": "2024-03", "noticed_at": "2024-03-02"}],
    "ops.stream_reconciled": [{"dataset": "parcel", "topic_incarnation": "i1", "topic_partition": 0, "next_offset": 3, "horizon": "700", "server": 1}],
    "ops.stream_gap": [
        {
            "dataset": "parcel", "topic": "parcels", "topic_incarnation": "i1", "topic_partition": 0, "kind": "removed unread",
            "first_offset": 3, "next_offset": 9,
        }
    ],
    "ops.stream_mart": [
        {
            # A table that no migration moves.
            "mart": "pg_class", "dataset": "parcel", "source": "raw.parcel", "key_columns": "{city}", "definition": "SELECT 1",
            "touched": "SELECT 1", "outlived": "false",
        }
    ],
    "ops.stream_hold": [{"dataset": "parcel", "reason": "too much", "topic_incarnation": "i1", "next_offsets": '{"0": 3}'}],
    "quarantine.refused_message": [
        {
            "batch_id": "m1", "dataset": "parcel", "contract_version": "1.0.0", "topic": "parcels", "topic_partition": 0,
            "message_offset": 2, "sent_at": "2024-03-01", "message_value": b"?", "headers": "[]", "column_name": "",
            "rule": "structure", "expected": "a JSON object",
        }
    ],
    "quarantine.refused_row": [
        {
            "batch_id": "two", "dataset": "orders", "partition": "2024-03", "contract_version": "1.0.0",
            "source_file": "two.csv", "line": 4, "column_name": "amount", "value": "x", "rule": "type",
            "expected": "a number", "record": '{"amount": "x"}',
        }
    ],
}  # fmt: skip


#: Rows that only a later revision takes: put in as soon as its rule knows the word.
_LATER: list[tuple[str, str, str, dict[str, Any]]] = [
    (
        "ops.batch", "batch_state_check", "archived",
        _ROWS["ops.batch"][0] | {"batch_id": "four", "partition": "2014-03", "state": "archived"},
    ),
    ("ops.decision", "decision_action_check", "restore", _ROWS["ops.decision"][0] | {"subject": "four", "action": "restore"}),
    (
        "quarantine.refused_message", "refused_message_state_check", "dismissed",
        _ROWS["quarantine.refused_message"][0] | {"message_offset": 1, "state": "dismissed", "closed_at": "2024-03-01"},
    ),
]  # fmt: skip


def fill(connection: psycopg.Connection[Any]) -> None:
    """Put the rows into every table that exists and is empty, and can take them."""
    for table, rows in _ROWS.items():
        if connection.execute("SELECT to_regclass(%s) IS NULL", [table]).fetchone() == (True,):
            continue
        if connection.execute(f"SELECT EXISTS (SELECT FROM {table})").fetchone() == (True,):  # type: ignore[call-overload]
            continue
        for row in rows:
            knows_judged = table != "ops.marts_build" or _knows(connection, "marts_build_state_check", "judged")
            if knows_judged or row["state"] != "judged":
                _put(connection, table, row)
    for table, rule, word, row in _LATER:
        column = "action" if table == "ops.decision" else "state"
        if _knows(connection, rule, word):
            there = connection.execute(f"SELECT EXISTS (SELECT FROM {table} WHERE {column} = %s)", [word])  # type: ignore[call-overload]
            if there.fetchone() == (False,):
                _put(connection, table, row)


def _put(connection: psycopg.Connection[Any], table: str, row: dict[str, Any]) -> None:
    """Insert a row, without the columns that the table does not have."""
    query = "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
    known = {name for (name,) in connection.execute(query, [table]).fetchall()}
    given = {name: value for name, value in row.items() if name in known}
    names, places = ", ".join(given), ", ".join(["%s"] * len(given))
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", list(given.values()))  # type: ignore[call-overload]


def _knows(connection: psycopg.Connection[Any], rule: str, word: str) -> bool:
    query = "SELECT bool_or(strpos(pg_get_constraintdef(oid), %s) > 0) FROM pg_constraint WHERE conname = %s"
    return connection.execute(query, [f"'{word}'", rule]).fetchone() == (True,)
