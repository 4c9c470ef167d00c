"""When a DAG runs: a contract's partitions and frequency, or the assets that it reads, as schedules."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import (
    Asset,
    AssetAny,
    CronPartitionTimetable,
    CronTriggerTimetable,
    DeltaTriggerTimetable,
    FixedKeyMapper,
    PartitionedAssetTimetable,
)

from tidegate.contracts import Contract
from tidegate.contracts.model import WHOLE

#: Grain → when its partitions end.
_ENDS = {"day": "@daily", "month": "@monthly", "year": "@yearly"}
_CALENDAR = {
    timedelta(hours=1): "@hourly",
    timedelta(days=1): "@daily",
    timedelta(days=7): "@weekly",
    timedelta(days=31): "@monthly",
    timedelta(days=92): "@quarterly",
    timedelta(days=366): "@yearly",
}


#: What publishing the marts updates.
MARTS = Asset(name="marts", uri="tidegate://warehouse/marts", group="marts")


def asset_of(dataset: str) -> Asset:
    """Return the asset that publishing a batch of `dataset` updates."""
    return Asset(name=dataset, uri=f"tidegate://warehouse/{dataset}", group="dataset")


def by_contract(contract: Contract) -> Any:
    """Return the schedule of a dataset that is delivered; None when its contract names no rhythm.

    A calendar partition is asked for when it has ended, and the run's partition key is its name, so Airflow's
    backfill speaks of partitions too. What is delivered whole is asked for as often as the contract says.
    """
    if contract.partitioning is not None:
        if contract.partitioning.grain is None:
            return None
        cron = _ENDS[contract.partitioning.grain]
        return CronPartitionTimetable(cron, timezone="UTC", run_offset=-1, key_format=contract.partitioning.form)
    if contract.frequency is None:
        return None
    if (cron := _CALENDAR.get(contract.frequency, "")) != "":
        return CronTriggerTimetable(cron, timezone="UTC")
    return DeltaTriggerTimetable(contract.frequency)


def end_of(contract: Contract) -> datetime | None:
    """Return when the schedule ends: with the partition that its source names `lastPartition`, if it does.

    A record of the past (the demo year) is asked for by backfill only; nobody waits for last month's delivery.
    """
    last = contract.source.options.get("lastPartition")
    if last is None or contract.partitioning is None or contract.partitioning.grain is None:
        return None
    # Not the end of that partition's data, but the moment that it is due: when the next one begins.
    return contract.partitioning.start_of(contract.partitioning.following(str(last)))


def on_any(*assets: Asset) -> Any:
    """Return the schedule of what is made anew, whole, when any partition of any of `assets` was published."""
    return PartitionedAssetTimetable(assets=AssetAny(*assets), default_partition_mapper=FixedKeyMapper(WHOLE))
