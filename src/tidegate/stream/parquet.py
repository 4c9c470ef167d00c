"""A topic into Parquet by Spark's Structured Streaming, for those who stream at the size of a cluster.

Two queries read it, one for rows, one for what is refused; each keeps its place in a checkpoint, and its folder has Spark's log of
the files that count. Whatever is killed, a message is there once. The ledger and the warehouse know nothing of it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from tidegate import errors
from tidegate.contracts import Contract
from tidegate.errors import BusyError, TerminalError, TidegateError, UsageError, first_line
from tidegate.settings import Settings
from tidegate.stores import kafka
from tidegate.transforms import files
from tidegate.transforms.engine import spark_session

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from tidegate.stream.spark_source import Subscription

log = structlog.get_logger(__name__)

#: Below the folder that rows go to: what is refused, and how far both queries are. Readers of the rows pass over them.
REFUSED, CHECKPOINTS = "_refused", "_checkpoint"
#: Messages of a micro-batch.
MOST = 500_000
_LOOK = 0.5
#: How an error of ours is told by a process that reads for Spark.
_OURS = re.compile(r"^tidegate\.errors\.(\w+): (.+)$", re.MULTILINE)
#: And any other one.
_RAISED = re.compile(r"^[\w.]+(?:Error|Exception): .+$", re.MULTILINE)


@dataclass(frozen=True)
class Taken:
    """How many rows a run wrote, and how many messages it refused."""

    rows: int
    refused: int


def take(
    settings: Settings,
    contract: Contract,
    folder: str | Path,
    *,
    until_idle: bool,
    stop: threading.Event,
    every: float = 60.0,
    most: int = MOST,
) -> Taken:
    """Take in what is new in the dataset's topic since the last run into `folder`, a path or a URL that Spark's nodes all reach.

    Args:
        settings: name Kafka and the Spark master; without one, Spark runs here on all cores.
        contract: of a stream.
        folder: rows go there, by partition; what is refused to `_refused` in it. One run at a time.
        until_idle: end when what the topic holds now has been taken; otherwise go on until `stop` is set.
        stop: ends it; a micro-batch that is under way is left, and done again by the next run.
        every: seconds between two micro-batches that wait for messages.
        most: messages of a micro-batch.

    Raises:
        UsageError: the dataset is no stream, no Kafka is configured, or the path is one that Spark would read as a pattern.
        SourceError: there is no such topic, or not what was due of it.
        BusyError: another run writes there.
        StackError, UnavailableError: there is no Java, or no server answers.
        TerminalError: Spark failed otherwise.
    """
    from tidegate.stream.spark_source import NAME, Subscription, source_of

    if contract.topic is None:
        raise UsageError(f"{contract.dataset} is no stream: {contract.reference} names no server of type kafka")
    if contract.discreet:
        raise UsageError(
            f"{contract.dataset} has columns that are sealed in the warehouse, and Parquet would hold them in plain: take it in "
            f"by `tidegate stream run {contract.dataset}`"
        )
    place = files.spell(folder).rstrip("/")
    subscription = Subscription(kafka.address(settings), contract, settings.duckdb_memory, most)
    with subscription.feed() as feed:
        feed.incarnation()
    own = settings.model_copy(update={"spark_master": settings.spark_master or "local[*]"})
    trigger: Mapping[str, Any] = {"availableNow": True} if until_idle else {"processingTime": f"{every} seconds"}
    # In this order: what Spark has to say, its JVM says.
    with spark_session(own) as spark, _failures(subscription, place):
        spark.dataSource.register(source_of(subscription))
        judged = spark.readStream.format(NAME).load()
        queries = {
            "rows": _start("rows", _rows(judged), place, f"{place}/{CHECKPOINTS}/rows", trigger, ["_partition"]),
            "refused": _start(
                "refused",
                _refused(judged, contract),
                f"{place}/{REFUSED}",
                f"{place}/{CHECKPOINTS}/refused",
                trigger,
                [],
            ),
        }
        try:
            return Taken(**_watched(queries, stop))
        finally:
            for query in queries.values():
                query.stop()


def _rows(judged: DataFrame) -> DataFrame:
    """Return the rows of right messages: the contract's columns, the partition's name, and where the message stands."""
    return judged.where("row IS NOT NULL").selectExpr(
        "row.*", "_partition", "topic_partition AS _topic_partition", "message_offset AS _message_offset"
    )


def _refused(judged: DataFrame, contract: Contract) -> DataFrame:
    """Return the others, as `quarantine.refused_message` has them: as they came, with the rule that they break."""
    from pyspark.sql import functions as F  # noqa: N812 - the name that every Spark reader knows

    assert contract.topic is not None
    return judged.where("refused IS NOT NULL").select(
        F.lit(contract.topic.name).alias("topic"), F.col("topic_partition"), F.col("message_offset"), F.col("refused.*"),
        F.lit(contract.version).alias("contract_version"),
    )  # fmt: skip


def _start(name: str, frame: DataFrame, folder: str, checkpoint: str, trigger: Mapping[str, Any], by: list[str]) -> Any:
    from pyspark.sql import functions as F  # noqa: N812 - the name that every Spark reader knows

    counted = frame.observe("counted", F.count(F.lit(1)).alias("messages"))
    writer = counted.writeStream.queryName(name).format("parquet").option("checkpointLocation", checkpoint)
    return writer.partitionBy(*by).trigger(**trigger).start(folder)


def _watched(queries: Mapping[str, Any], stop: threading.Event) -> dict[str, int]:
    """Wait until all queries have ended, or are told to; return what each wrote. An error of one ends all."""
    written: dict[str, dict[int, int]] = {name: {} for name in queries}
    while True:
        active = [query for query in queries.values() if query.isActive]
        for name, query in queries.items():
            _count(written[name], name, query)
            if query not in active and (failure := query.exception()) is not None:
                raise failure
        if not active or stop.is_set():
            break
        try:
            active[0].awaitTermination(_LOOK)
        except KeyboardInterrupt:
            # Spark makes one of Ctrl-C, whatever else we told Python to do then.
            stop.set()
    return {name: sum(counts.values()) for name, counts in written.items()}


def _count(written: dict[int, int], name: str, query: Any) -> None:
    for progress in query.recentProgress:
        messages = (progress.observedMetrics or {}).get("counted")
        # A batch that waits for messages is told of, too, by the number that it is going to have.
        if messages is not None and progress.numInputRows and progress.batchId not in written:
            written[progress.batchId] = messages["messages"]
            log.info("micro-batch written", query=name, batch=progress.batchId, messages=messages["messages"])


@contextmanager
def _failures(subscription: Subscription, place: str) -> Iterator[None]:
    """Turn Spark's errors into ours, one that was raised in Spark's processes back into itself."""
    from py4j.protocol import Py4JError  # type: ignore[import-untyped]
    from pyspark.errors import PySparkException

    try:
        yield
    except (PySparkException, Py4JError) as failure:
        said = str(failure)
        if ours := _OURS.search(said):
            kind = getattr(errors, ours[1], TerminalError)
            raise (kind if issubclass(kind, TidegateError) else TerminalError)(ours[2].strip()) from failure
        if "CONCURRENT_STREAM_LOG_UPDATE" in said:
            raise BusyError(f"another run writes to {place}: let it end, and run this again") from failure
        raised = _RAISED.findall(said)
        raise TerminalError(
            f"Spark failed to take {subscription.topic} in: {raised[-1] if raised else first_line(said)}. What was written counts, and the next run goes "
            "on from there; logs/spark.log says more"
        ) from failure
