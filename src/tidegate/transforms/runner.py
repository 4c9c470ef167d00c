"""Run one transform: check its inputs, hand them to Spark, and leave one sorted Parquet file.

Where the files come from, and how the result is staged, gated and published, is not known here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tidegate.errors import ContractError, SourceError, TerminalError, UsageError, first_line
from tidegate.settings import Settings
from tidegate.transforms import files
from tidegate.transforms.catalog import Transform, load
from tidegate.transforms.engine import check_answers, spark_session


@dataclass(frozen=True)
class Output:
    """What a run left: the URL of its one Parquet file, and the number of rows in it."""

    path: str
    rows: int


def run(settings: Settings, name: str, inputs: Mapping[str, Sequence[str | Path]], output: str | Path) -> Output:
    """Run transform `name` over Parquet files and write `output`/<name>.parquet.

    Args:
        settings: name the Spark engine.
        name: of the transform, and of its output.
        inputs: for each dataset in the transform's INPUTS, its Parquet files (paths, file:// or store URLs).
        output: folder or URL that the file goes to; a file of an earlier run is replaced. One run at a time.

    Raises:
        UsageError: no such transform; an input too many or too few; a path that the engines read differently.
        SourceError: an input file is missing or no Parquet, or the engine does not see all of its rows.
        ContractError: the transform and its inputs' columns don't fit.
        StackError, UnavailableError: there is no engine, or it does not answer.
        TerminalError: Spark failed otherwise.
    """
    transform = load(settings, name)
    sources = _sources(transform, inputs)
    expected = {dataset: files.count_rows(settings, urls) for dataset, urls in sources.items()}
    folder = files.spell(output).rstrip("/")
    target, parts = f"{folder}/{name}.parquet", f"{folder}/_parts"

    files.remove(parts)  # of a run that was killed
    with _spark_failures(settings, name), spark_session(settings) as spark:
        frames = {dataset: spark.read.parquet(*urls) for dataset, urls in sources.items()}
        for dataset, frame in frames.items():
            _check_seen(dataset, frame.count(), expected[dataset])
        result = transform.function(**frames)
        empty = result.limit(0).toArrow()
        result.write.mode("overwrite").parquet(parts)
    rows = files.gather(settings, parts, target, empty)
    files.remove(parts)
    return Output(target, rows)


def _sources(transform: Transform, inputs: Mapping[str, Sequence[str | Path]]) -> dict[str, list[str]]:
    if set(inputs) != set(transform.inputs):
        raise UsageError(
            f"transform {transform.name} reads {', '.join(transform.inputs)}, and was given "
            f"{', '.join(sorted(inputs)) or 'nothing'}: name each of its inputs, and no other"
        )
    for dataset in transform.inputs:
        if not inputs[dataset]:
            raise SourceError(
                f"transform {transform.name} has no files of {dataset} to read: publish a batch of {dataset} first"
            )
    return {dataset: [files.spell(path) for path in inputs[dataset]] for dataset in transform.inputs}


def _check_seen(dataset: str, seen: int, expected: int) -> None:
    # Sail reads a path that it cannot find as no rows, so one on another machine would lose data in silence.
    if seen != expected:
        raise SourceError(
            f"the Spark engine sees {seen} rows of {dataset} where its files hold {expected}: it does not "
            "reach the same files. Point TIDEGATE_LANDING_URL at storage that it shares with this machine"
        )


@contextmanager
def _spark_failures(settings: Settings, name: str) -> Iterator[None]:
    from grpc import RpcError  # type: ignore[import-untyped]
    from py4j.protocol import Py4JError  # type: ignore[import-untyped]
    from pyspark.errors import AnalysisException, PySparkException

    try:
        yield
    except AnalysisException as misfit:
        raise ContractError(
            f"transform {name} does not fit its inputs: {first_line(misfit)}. Compare transforms/{name}.py "
            "with the contracts of its inputs in schemas/"
        ) from misfit
    except (PySparkException, Py4JError, RpcError) as failure:
        check_answers(settings)
        raise TerminalError(
            f"transform {name} failed in Spark: {first_line(failure)}. Its inputs and published data are "
            "untouched; logs/spark.log (JVM) or `tidegate logs sail` says more"
        ) from failure
