"""What is known about a topic before somebody decides, and the decision; DECISION_LOG.md is made from the ledger."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from tidegate.delivery import approval, cases, ledger, work
from tidegate.delivery.approval import Subject
from tidegate.delivery.ledger import Delivery
from tidegate.errors import UsageError
from tidegate.settings import Settings
from tidegate.stores.postgres import connect


def gather(settings: Settings, delivery: Delivery, topic: str) -> Iterator[str]:
    """Yield every line of the strategy and the decision records that holds all words of a topic, every verdict and decision."""
    words = [word for word in re.findall(r"\w+", topic.casefold()) if len(word) > 1]
    if not words:
        raise UsageError(f"found the topic {topic!r}, expected a word")
    records = sorted((settings.project / "docs" / "decisions").glob("*.md"))
    for path in (settings.project / delivery.strategy, *records):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if all(word in line.casefold() for word in words):
                yield f"{path.relative_to(settings.project)}:{number}: {line.strip()}"
    with connect(settings) as connection:
        said, given = (
            ledger.verdicts(connection, delivery.delivery_id),
            ledger.approvals(connection, delivery.delivery_id),
        )
    for one in said:
        if all(word in f"{one.gate} {one.rule} {one.value}".casefold() for word in words):
            yield f"{one.gate}: {one.verdict}: {one.told} ({one.target_source})"
    for about in given:
        if all(word in f"{about.subject} {about.why}".casefold() for word in words):
            yield f"{about.decided_by} has decided {about.decided_at:%Y-%m-%d %H:%M}: {about.subject}: {about.why}"


def write(settings: Settings, delivery: Delivery, topic: str, choice: str, *, by: str, why: str) -> None:
    """Write down what somebody has decided about a topic, and the log of decisions anew."""
    told = f"{topic}: {choice}"
    subject = Subject("topic", told, hashlib.sha256(told.encode()).hexdigest())
    approval.record(settings, delivery, subject, "approve", by=by, why=why)
    place = cases.find(settings, delivery.delivery_id)
    first = place.team.waves[0].wave
    work.write(place.role(place.team.leader, first), "DECISION_LOG.md")
