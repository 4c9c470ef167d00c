"""What the ledger knows of the pipelines: whether batches passed their gates, how long they took, how many arrived."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

from tidegate.contracts import Contract, load_all
from tidegate.evidence import checks
from tidegate.evidence.probe import CannotRunError, Finding, Ground
from tidegate.gates import ledger
from tidegate.observe import freshness as promised
from tidegate.stores.postgres import Connection, connect

#: What is under way for longer has been left behind: no step takes that long.
_LEFT_BEHIND = "1 hour"
_CONFIDENCE = 0.95
_EMPTY = "the ledger knows of no batch yet: `tidegate run` first"


def expectations(ground: Ground) -> Iterator[Finding]:
    """Gather the newest verdict of each rule on each published batch and on the marts; name rules that the last release had, and lost."""
    with connect(ground.settings, autocommit=True) as connection:
        subjects = {
            batch.batch_id: f"{batch.dataset} {batch.partition}"
            for batch in ledger.batches(connection, state="published")
        }
        builds = connection.execute("SELECT build_id FROM ops.marts_build WHERE state = 'published'").fetchall()
        subjects |= {row["build_id"]: "marts" for row in builds}
        if not subjects:
            raise CannotRunError(_EMPTY)
        told, failed, unjudged, released, rules = [], 0, 0, 0, 0
        for subject, name in subjects.items():
            # An archive or a freshness says nothing of the rows.
            verdicts = [v for v in ledger.verdicts_of(connection, subject) if v.gate.startswith("expectations.")]
            rules += len(verdicts)
            bad = [v for v in verdicts if v.verdict == "FAIL"]
            allowed = [d for d in ledger.decisions_on(connection, subject) if d["action"] == "release"]
            unjudged += not verdicts
            failed += bool(bad)
            released += bool(bad and allowed)
            word = "UNJUDGED" if not verdicts else "FAIL" if bad else "ok"
            told.append(f"{word:8} {name} ({subject}): {len(verdicts)} rules")
            told += [f"         {v.told} ({v.target_source})" for v in bad]
            told += [f"         released by {d['decided_by']}: {d['why']}" for d in allowed if bad]
    figures = {
        "batches": len(subjects), "rules": rules, "failed": failed, "unjudged": unjudged, "released": released,
        "not_passed": failed + unjudged,
    }  # fmt: skip
    lost = checks.lost_rules(ground.settings.project)
    if lost is not None:
        figures["rules_lost"] = len(lost)
        told += [f"LOST     {rule}" for rule in lost]
    yield Finding(
        "tests/quality/expectations.log", "\n".join(told), figures, "SELECT … FROM ops.verdict",
        int(bool(failed or unjudged or lost)),
    )  # fmt: skip


def sla(ground: Ground) -> Iterator[Finding]:
    """Add up how long each batch took from its landing until its readers saw it, by the ledger's own steps."""
    with connect(ground.settings, autocommit=True) as connection:
        rows = connection.execute(
            """
            SELECT b.dataset, b.partition, b.batch_id, b.accepted_count AS rows,
                extract(epoch FROM max(s.started_at + make_interval(secs => s.seconds)) - min(s.started_at))::float8 AS seconds,
                sum(s.seconds) AS busy_seconds
            FROM ops.step AS s JOIN ops.batch AS b ON b.batch_id = s.subject
            WHERE s.step_id <= (SELECT min(p.step_id) FROM ops.step AS p WHERE p.subject = b.batch_id AND p.step = 'publish')
            GROUP BY b.batch_id ORDER BY seconds DESC
            """
        ).fetchall()
    if not rows:
        raise CannotRunError(f"no batch has been published: {_EMPTY}")
    seconds = [row["seconds"] for row in rows]
    p95 = statistics.quantiles(seconds, n=20)[-1] if len(seconds) > 1 else seconds[0]
    busy, dataset = sum(row["busy_seconds"] for row in rows), itemgetter("dataset")
    whole = _way(rows)
    figures = {
        **whole, "p95_seconds": round(p95, 3), "rows_per_second": round(whole["rows"] / busy, 1) if busy else 0.0,
        "by_dataset": {name: _way(list(some)) for name, some in groupby(sorted(rows, key=dataset), key=dataset)},
    }  # fmt: skip
    lines = [
        f"{row['seconds']:9.3f} s, {row['busy_seconds']:9.3f} s of them in steps: {row['dataset']} {row['partition']}, {row['rows']} rows ({row['batch_id']})"
        for row in rows
    ]
    yield Finding("tests/performance/pipeline_sla.log", "\n".join(lines), figures, "SELECT … FROM ops.step")


def _way(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Add up what batches took."""
    seconds = [row["seconds"] for row in rows]
    return {
        "batches": len(rows), "rows": sum(row["rows"] for row in rows),
        "median_seconds": round(statistics.median(seconds), 3), "longest_seconds": round(max(seconds), 3),
    }  # fmt: skip


def success(ground: Ground) -> Iterator[Finding]:
    """Count the deliveries that came to rest and those that were left behind, and tell what share that proves.

    A stream delivers by micro-batches: one is left behind whose messages waited for longer than the contract allows.
    """
    with connect(ground.settings, autocommit=True) as connection:
        begun, left = _deliveries(connection)
        streamed, late = _micro_batches(connection, load_all(ground.settings))
    if not begun + streamed:
        raise CannotRunError(_EMPTY)
    tries, failures = begun + streamed, len(left) + sum(late.values())
    proven = proven_share(tries, failures)
    figures = {
        "deliveries": begun, "micro_batches": streamed, "left_behind": failures, "share": round(1 - failures / tries, 6),
        "proven_share": round(proven, 6), "confidence": _CONFIDENCE,
    }  # fmt: skip
    text = "\n".join([
        f"{begun} deliveries were begun, {len(left)} of them were left behind",
        f"{streamed} micro-batches of streams were published, {sum(late.values())} of them too late",
        f"with {_CONFIDENCE:.0%} confidence that proves a share of {proven:.4f}: of few deliveries little can be said, and 99.5 % takes 598 "
        "without a failure",
        "what a retry has mended is no failure, and leaves no line in the ledger",
        *left,
        *(f"{number} micro-batches of {dataset} had messages that waited for longer than allowed" for dataset, number in late.items()),
    ])  # fmt: skip
    yield Finding(
        "tests/performance/success_rate.log", text, figures, "SELECT … FROM ops.batch; … FROM ops.stream_batch",
        int(bool(failures)),
    )  # fmt: skip


def freshness(ground: Ground) -> Iterator[Finding]:
    """Hold what readers see to the freshness that contracts promise: each dataset's newest batch, each stream's oldest message."""
    batches, streams = promised.judge(ground.settings), promised.judge_streams(ground.settings)
    if not batches and not streams:
        raise CannotRunError(f"no dataset that promises freshness was ever published: {_EMPTY}")
    stale = [one for one in (*batches, *streams) if one.is_stale]
    figures: dict[str, float] = {"datasets": len(batches) + len(streams), "stale": len(stale)}
    # Where there is none of a kind it has no figure, and a gate that asks for it does not pass.
    for name, some in (("oldest_seconds", batches), ("stream_oldest_seconds", streams)):
        if some:
            figures[name] = round(max(one.age_seconds for one in some), 1)
    lines = [
        f"{one.verdict.verdict} {one.dataset}: {one.verdict.value}, {one.verdict.target} ({one.verdict.target_source})"
        for one in (*batches, *streams)
    ]
    yield Finding(
        "tests/performance/freshness.log", "\n".join(lines), figures,
        "dbt source freshness; of streams: ops.stream_offset and the broker", int(bool(stale)),
    )  # fmt: skip


def proven_share(tries: int, failures: int) -> float:
    """Return the share of successes that so many tries prove at 95 % confidence (Clopper and Pearson's lower bound)."""
    low, high = 0.0, 1.0 - failures / tries
    for _ in range(60):
        middle = (low + high) / 2
        # How likely so few failures would be, or fewer, if no more than this share succeeded.
        likely = sum(
            math.exp(_log_choose(tries, n) + (tries - n) * math.log(middle) + n * math.log1p(-middle))
            for n in range(failures + 1)
        ) if 0 < middle < 1 else float(middle)  # fmt: skip
        low, high = (middle, high) if likely < 1 - _CONFIDENCE else (low, middle)
    return low


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _deliveries(connection: Connection) -> tuple[int, list[str]]:
    """Return how many deliveries came to an end or should have, and those that did not."""
    rows = connection.execute(
        """
        SELECT dataset, partition, batch_id, state, created_at,
            state = ANY (%s) AND created_at < now() - %s::interval AS left_behind,
            state = ANY (%s) AND created_at >= now() - %s::interval AS on_its_way
        FROM ops.batch ORDER BY created_at
        """,
        [sorted(ledger.UNDER_WAY), _LEFT_BEHIND, sorted(ledger.UNDER_WAY), _LEFT_BEHIND],
    ).fetchall()
    left = [
        f"{row['state']} since {row['created_at']:%Y-%m-%d %H:%M}: {row['dataset']} {row['partition']} ({row['batch_id']})"
        for row in rows
        if row["left_behind"]
    ]
    return sum(not row["on_its_way"] for row in rows), left


def _micro_batches(connection: Connection, contracts: Iterable[Contract]) -> tuple[int, dict[str, int]]:
    """Return how many micro-batches streams have published, and of each dataset how many too late, if any."""
    published, late = 0, dict[str, int]()
    for contract in contracts:
        row = connection.execute(
            "SELECT coalesce(sum(folded_count), 0)::bigint AS published, "
            "count(*) FILTER (WHERE latency_p99_seconds > extract(epoch FROM %s::interval)) AS late "
            "FROM ops.stream_batch WHERE dataset = %s",
            [contract.freshness, contract.dataset],
        ).fetchone()
        assert row is not None
        published += row["published"]
        if row["late"]:
            late[contract.dataset] = row["late"]
    return published, late
