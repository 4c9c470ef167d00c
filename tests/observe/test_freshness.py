"""Freshness of what is published: judged by dbt from the contracts, kept in the ledger, told once."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tidegate.gates import ledger
from tidegate.gates.ledger import Batch
from tidegate.observe import alerts, freshness
from tidegate.settings import Settings
from tidegate.stores.postgres import connect


def publish(settings: Settings, dataset: str, at: datetime | None = None) -> str:
    """Write down in the ledger that a batch of `dataset` is published since `at`, and return its id."""
    batch = Batch(
        batch_id=f"{dataset}-1", dataset=dataset, partition="all", state="landed", contract_version="1.0.0",
        source_name="x.csv", source_sha256="0" * 64, landing_url="file:///x", delivered_count=1, accepted_count=1,
        refused_count=0, published_schema="raw",
    )  # fmt: skip
    with connect(settings) as connection:
        ledger.record_batch(connection, replace(batch))
        ledger.set_state(connection, batch.batch_id, "published", published_at=at or datetime.now(UTC))
    return batch.batch_id


def said(settings: Settings) -> list[tuple[Any, ...]]:
    assert settings.warehouse_url
    with psycopg.connect(settings.warehouse_url.get_secret_value()) as connection:
        return connection.execute("SELECT subject, verdict, target FROM ops.verdict ORDER BY verdict_id").fetchall()


@pytest.fixture
def judged(settings: Settings) -> dict[str, freshness.Judged]:
    publish(settings, "airlines")
    publish(settings, "airports", datetime(2020, 1, 2, tzinfo=UTC))
    return {found.dataset: found for found in freshness.judge(settings)}


def test_only_what_is_older_than_its_contract_promises_is_stale(judged: dict[str, freshness.Judged]) -> None:
    assert {name: found.is_stale for name, found in judged.items()} == {"airlines": False, "airports": True}


def test_the_verdict_stands_in_the_ledger_with_the_contracts_promise(
    settings: Settings, judged: dict[str, freshness.Judged]
) -> None:
    assert said(settings) == [
        ("airlines-1", "PASS", "at most 396 days ago"),
        ("airports-1", "WARN", "at most 396 days ago"),
    ]
    name, _, line = judged["airports"].verdict.target_source.partition(":")
    promise = (settings.project / name).read_text().splitlines()[int(line) - 1]
    assert (name, promise.strip()) == ("schemas/airports.odcs.yaml", "- property: latency")


def test_the_verdicts_of_a_run_rest_on_one_file_that_says_what_was_measured(
    settings: Settings, judged: dict[str, freshness.Judged]
) -> None:
    (sha256,) = {found.verdict.evidence_sha256 for found in judged.values()}
    assert settings.warehouse_url
    with psycopg.connect(settings.warehouse_url.get_secret_value()) as connection:
        ((found, path, figures),) = connection.execute("SELECT evidence_sha256, path, figures FROM ops.evidence")
    assert found == sha256 == hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert {name: figures[name]["status"] for name in judged} == {"airlines": "pass", "airports": "warn"}
    assert figures["airports"]["published_at"].startswith("2020-01-02 00:00:00")


def test_a_stale_dataset_is_news_once(settings: Settings, judged: dict[str, freshness.Judged]) -> None:
    assert judged["airports"].is_news
    assert [found.is_news for found in freshness.judge(settings)] == [False, False]


def test_the_message_says_since_when_and_what_was_promised(judged: dict[str, freshness.Judged]) -> None:
    told = alerts.stale({"airports": judged["airports"].verdict})
    assert told.startswith(
        "STALE: airports: last published 2020-01-02 00:00 UTC, expected at most 396 days ago "
        "(schemas/airports.odcs.yaml:30)"
    )
