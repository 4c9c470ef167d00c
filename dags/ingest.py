"""Airflow DAGs `ingest_<dataset>`, one for each contract that names a source: land → stage → judge → publish."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Asset, CronDataIntervalTimetable, Param, dag, get_parsing_context, task

from dags.wiring.batch import wave
from dags.wiring.policy import task_defaults
from tidegate.contracts import Contract, load_all
from tidegate.settings import get_settings

PREFIX = "ingest_"


def build(contract: Contract) -> None:
    dataset = contract.dataset
    monthly = contract.partitioning is not None

    @dag(
        dag_id=PREFIX + dataset,
        schedule=CronDataIntervalTimetable("@monthly", "UTC") if monthly else None,
        start_date=datetime(2013, 1, 1, tzinfo=UTC),
        catchup=False,
        is_paused_upon_creation=True,
        default_args=task_defaults(contract.owner),
        params={"partition": Param(None, type=["null", "string"])},
    )
    def ingest() -> None:
        @task
        def land(**context: Any) -> str:
            from tidegate.contracts import load
            from tidegate.ingest.land import land as step

            settings = get_settings()
            own = load(settings, dataset)
            start = context.get("data_interval_start")
            partition = context["params"]["partition"]
            if partition is None and start and own.partitioning:
                partition = own.partitioning.of_instant(start)
            return step(settings, own, partition).batch_id

        wave(dataset, Asset(dataset), land())

    ingest()


wanted = get_parsing_context().dag_id
for contract in load_all(get_settings()):
    if contract.schema == "raw" and wanted in (None, PREFIX + contract.dataset):
        build(contract)
