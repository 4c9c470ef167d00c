"""The project's own flights and their events: a topic that nobody else knows, and January in the warehouse."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.kafka_servers import reaching
from tests.whole import CHECKOUT

from tidegate.run import demo
from tidegate.settings import Settings, load_settings
from tidegate.stack.kafka_server import KafkaServer
from tidegate.wave import ingest


@pytest.fixture
def airline(
    shared_kafka: KafkaServer,
    settings: Settings,
    topic: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Settings:
    """The project's own contracts, a topic that nobody else knows, and January published from its files."""
    root = tmp_path / "project"
    for folder in ("schemas", "expectations"):
        shutil.copytree(CHECKOUT / folder, root / folder)
    contract = root / "schemas/flight_event.odcs.yaml"
    contract.write_text(contract.read_text().replace("value: flight_event", f"value: {topic(partitions=3)}"))
    monkeypatch.setenv("TIDEGATE_PROJECT", str(root))
    found = reaching(load_settings(), shared_kafka, monkeypatch)
    demo.deliver(found, ["2013-01"])
    for dataset in demo.WHOLE:
        ingest(found, dataset, None, None)
    ingest(found, "flights", "2013-01", None)
    return found
