"""Copy refused messages to the topic of dead letters, for whoever sent them; the quarantine keeps the original.

Copied after they were written, and marked when the broker has them: what is cut short is copied again, never left out.
Of a discreet dataset nothing is copied but the reason and the place, by which the sender finds the message in its topic.
"""

from __future__ import annotations

import contextlib
from typing import Any

import structlog

from tidegate.contracts import Contract
from tidegate.errors import TidegateError, UsageError
from tidegate.settings import Settings
from tidegate.stores import kafka, topics
from tidegate.stores.postgres import Connection

log = structlog.get_logger(__name__)

_AT_ONCE = 500


def copy(settings: Settings, connection: Connection, contract: Contract) -> int:
    """Copy what has not been copied yet; return how many. A broker that refuses is told of in the log: the next call tries again."""
    assert contract.topic is not None
    done = 0
    try:
        while rows := connection.execute(
            "SELECT * FROM quarantine.refused_message WHERE dataset = %s AND copied_at IS NULL "
            "ORDER BY refused_message_id LIMIT %s FOR UPDATE SKIP LOCKED",
            [contract.dataset, _AT_ONCE],
        ).fetchall():
            _ensure(settings, contract.topic.dead_letters)
            with kafka.reached(settings), contextlib.closing(kafka.producer(settings)) as producer:
                sent = [
                    producer.send(
                        contract.topic.dead_letters,
                        key=None if contract.discreet else row["message_key"],
                        value=b"" if contract.discreet else _value(row),
                        headers=_told(row, came=[] if contract.discreet else row["headers"]),
                    )
                    for row in rows
                ]
                producer.flush()
                for each in sent:
                    each.get()
            connection.execute(
                "UPDATE quarantine.refused_message SET copied_at = clock_timestamp() WHERE refused_message_id = ANY(%s)",
                [[row["refused_message_id"] for row in rows]],
            )
            connection.commit()
            done += len(rows)
    except TidegateError as trouble:
        log.warning("dead letters wait", dataset=contract.dataset, reason=str(trouble))
    finally:
        connection.rollback()
    return done


def _ensure(settings: Settings, topic: str) -> None:
    if not topics.exists(settings, topic):
        # Another worker may make it at the same moment.
        with contextlib.suppress(UsageError):
            topics.create(settings, topic, partitions=1)


def _value(row: dict[str, Any]) -> bytes | None:
    # With its headers a message of the largest size would be larger than its topic takes.
    value = None if row["rule"] == "too large" else row["message_value"]
    # The client sends none that has neither key nor value.
    return b"" if value is None and row["message_key"] is None else value


def _told(row: dict[str, Any], came: list[tuple[str, str | None]]) -> list[tuple[str, bytes]]:
    """Return the headers as they came, and behind them what was wrong with the message."""
    reasons = {
        "tidegate.topic": row["topic"], "tidegate.partition": row["topic_partition"], "tidegate.offset": row["message_offset"],
        "tidegate.refused_message_id": row["refused_message_id"], "tidegate.column": row["column_name"],
        "tidegate.rule": row["rule"], "tidegate.expected": row["expected"], "tidegate.contract": row["contract_version"],
    }  # fmt: skip
    return [(name, str(value or "").encode()) for name, value in came] + [
        (name, str(value).encode()) for name, value in reasons.items()
    ]
