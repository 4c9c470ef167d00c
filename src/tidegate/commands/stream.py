"""`tidegate stream`: take topics in, see how they stand, let a held one go on, fold what is long past."""

from __future__ import annotations

import getpass

import typer

_JSON = typer.Option(False, "--json", help="As JSON, for scripts.")
_DATASET = typer.Argument(help="The dataset, or its topic.")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    stream = typer.Typer(help="Take topics in, see how they stand, let a held one go on.")
    app.add_typer(stream, name="stream", no_args_is_help=True)
    for command in (run, status, release, spark, fold):
        stream.command()(command)


def run(
    topics: list[str] = typer.Argument(metavar="TOPIC...", help="Datasets, or their topics."),
    until_idle: bool = typer.Option(False, "--until-idle", help="End when what the topics hold now has been taken in."),
    health: int | None = typer.Option(
        None, "--health", metavar="PORT", help="Answer GET /health on this port of 127.0.0.1; 0 picks one."
    ),
) -> None:
    """Take topics in, micro-batch after micro-batch, until SIGTERM or Ctrl-C; several workers share a topic's partitions."""
    import signal
    import threading
    from contextlib import ExitStack

    from tidegate.observe import logs
    from tidegate.settings import get_settings
    from tidegate.stream import streams
    from tidegate.stream.health import serving
    from tidegate.stream.worker import Worker

    settings = get_settings()
    stop = threading.Event()
    workers = [Worker(settings, contract.dataset, stop) for contract in streams.named(settings, topics)]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    logs.hush()
    with ExitStack() as stack:
        if health is not None:
            typer.echo(f"health: {stack.enter_context(serving(workers, health))}", err=True)
        streams.run(workers, drain=until_idle)
    for worker in workers:
        done = worker.account
        typer.echo(
            f"{worker.dataset}: {done.messages} messages in {done.batches} micro-batches: {done.rows} rows added, "
            f"{done.known} known, {done.refused} refused" + (f", {done.gaps} gaps" if done.gaps else "")
        )


def status(topic: str | None = typer.Argument(None, help="Only this dataset, or topic."), json: bool = _JSON) -> None:
    """Show how far each stream was taken, what waits, what was refused, and how long messages took."""
    from dataclasses import asdict

    from tidegate.commands._display import print_json, print_table
    from tidegate.settings import get_settings
    from tidegate.stream import streams
    from tidegate.stream.state import state_of

    settings = get_settings()
    found = [state_of(settings, c) for c in streams.named(settings, [topic] if topic else [])]
    if json:
        print_json([asdict(s) | {"lag": s.lag, "age_seconds": s.age_seconds()} for s in found])
        return
    print_table(
        ("dataset", "state", "workers", "lag", "oldest waits", "messages", "rows", "known", "refused", "late", "gaps", "P95"),
        [
            (
                s.dataset, "held" if s.hold else "flows", s.workers, s.lag, f"{s.age_seconds():.0f} s",
                *(s.totals.get(name) for name in ("messages", "rows", "known", "refused", "late")), s.gaps,
                "" if s.lately.get("latency_p95_seconds") is None else f"{s.lately['latency_p95_seconds']:.2f} s",
            )
            for s in found
        ],
    )  # fmt: skip
    for s in found:
        if s.hold:
            typer.echo(f"{s.dataset} is held since {s.hold.held_at:%Y-%m-%d %H:%M:%S} UTC: {s.hold.reason}")
        for mart in s.marts:
            if mart.trouble:
                typer.echo(
                    f"{mart.name} does not follow {s.dataset}: {mart.trouble}; repair the model, then `tidegate marts build`"
                )


def release(
    topic: str = _DATASET,
    why: str = typer.Option(..., "--why", help="The reason, kept in the ledger."),
    by: str = typer.Option(getpass.getuser(), "--as", help="Who decides."),
) -> None:
    """Let a held stream go on: what it was held for goes to quarantine."""
    from tidegate.settings import get_settings
    from tidegate.stores.postgres import connect
    from tidegate.stream import ledger, streams

    settings = get_settings()
    (contract,) = streams.named(settings, [topic])
    with connect(settings) as connection:
        hold = ledger.release(connection, contract.dataset, by=by, why=why)
    typer.echo(f"{contract.dataset} goes on: it was held for {hold.reason}")


def spark(
    topic: str = _DATASET,
    to: str = typer.Option(..., "--to", metavar="FOLDER", help="Where Parquet goes: a path or URL that Spark reaches."),
    until_idle: bool = typer.Option(False, "--until-idle", help="End when what the topic holds now has been taken in."),
    every: float = typer.Option(60.0, "--every", min=0.1, help="Seconds between two micro-batches."),
) -> None:
    """Take a topic into Parquet by Spark (TIDEGATE_SPARK_MASTER, or this machine's cores): what is new since the last run."""
    import signal
    import threading

    from tidegate.settings import get_settings
    from tidegate.stream import parquet, streams

    settings = get_settings()
    (contract,) = streams.named(settings, [topic])
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    taken = parquet.take(settings, contract, to, until_idle=until_idle, stop=stop, every=every)
    typer.echo(f"{contract.dataset}: {taken.rows} rows written to {to}, {taken.refused} refused messages beside them")


def fold(
    days: int = typer.Option(30, "--days", min=1, help="Micro-batches that are younger stay as they are."),
) -> None:
    """Fold the micro-batches of each day long past into one row of the ledger; what each was is kept as Parquet."""
    from datetime import UTC, datetime, timedelta

    from tidegate.settings import get_settings
    from tidegate.stream.fold import fold as folded

    done = folded(get_settings(), datetime.now(UTC), timedelta(days=days))
    typer.echo(f"{done.micro_batches} micro-batches are {done.days} rows of the ledger now")
