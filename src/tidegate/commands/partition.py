"""`tidegate partition`: which partitions there are and until when; make the next ones, archive those whose time is over."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime

import typer

_DATASET = typer.Option(None, "--dataset", help="Only of this dataset.")
_JSON = typer.Option(False, "--json", help="As JSON, for scripts.")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    partition = typer.Typer(
        help="See partitions, make the next ones, archive those that have outlived their retention."
    )
    app.add_typer(partition, name="partition", no_args_is_help=True)
    partition.command("list")(list_)
    partition.command()(ahead)
    partition.command()(archive)
    partition.command()(restore)


def list_(dataset: str | None = _DATASET, json: bool = _JSON) -> None:
    """List every partition: published or archived, and until when readers have it; or made ahead, and whether written to."""
    from tidegate.commands._display import print_json, print_table
    from tidegate.contracts import load, load_all
    from tidegate.publish import retention
    from tidegate.publish.ahead import standing
    from tidegate.settings import get_settings
    from tidegate.stores.postgres import connect

    settings = get_settings()
    contracts = [load(settings, dataset)] if dataset else load_all(settings)
    with connect(settings) as connection:
        found = [kept for contract in contracts for kept in retention.partitions(connection, contract)]
        without_batch = [one for contract in contracts for one in standing(connection, contract)]
        until = {(c.dataset, one.partition): one.until for c in contracts for one in retention.written(connection, c)}
    if json:
        print_json(
            [
                {
                    "dataset": kept.batch.dataset, "partition": kept.batch.partition, "state": kept.batch.state,
                    "batch_id": kept.batch.batch_id, "rows": kept.batch.accepted_count, "kept_until": kept.until,
                    "landing_url": kept.batch.landing_url,
                }
                for kept in found
            ] + [
                {
                    "dataset": one.dataset, "partition": one.partition, "state": one.state, "batch_id": None,
                    "rows": 0 if one.empty else None, "kept_until": until.get((one.dataset, one.partition)),
                    "landing_url": None,
                }
                for one in without_batch
            ]
        )  # fmt: skip
        return
    rows = [
        (kept.batch.dataset, kept.batch.partition, kept.batch.state, kept.batch.batch_id, kept.batch.accepted_count,
         "for ever" if kept.until is None else f"{kept.until:%Y-%m-%d}")
        for kept in found
    ] + [
        (one.dataset, one.partition, one.state, None, 0 if one.empty else None,
         None if (end := until.get((one.dataset, one.partition))) is None else f"{end:%Y-%m-%d}")
        for one in without_batch
    ]  # fmt: skip
    print_table(("dataset", "partition", "state", "batch", "rows", "kept until"), rows)


def ahead(
    dataset: str | None = typer.Option(
        None, "--dataset", help="For this dataset; without it, for every one whose rows come one by one."
    ),
    count: int = typer.Option(2, "--count", min=0, help="How many intervals after the present one."),
    json: bool = _JSON,
) -> None:
    """Make the empty partitions of the present interval and of the next ones; a batch takes the place of an empty one."""
    from tidegate.commands._display import print_json
    from tidegate.contracts import load, load_all
    from tidegate.publish.ahead import make_ahead, name_of
    from tidegate.settings import get_settings

    settings = get_settings()
    contracts = [load(settings, dataset)] if dataset else [one for one in load_all(settings) if one.made_ahead]
    made = [
        (contract, partition)
        for contract in contracts
        for partition in make_ahead(settings, contract, datetime.now(UTC), count)
    ]
    if json:
        print_json(
            [
                {"dataset": c.dataset, "partition": partition, "table": f"{c.schema}.{name_of(c, partition)}"}
                for c, partition in made
            ]
        )
        return
    for contract, partition in made:
        typer.echo(
            f"{contract.dataset} {partition}: {contract.schema}.{name_of(contract, partition)} waits for its rows"
        )


def archive(
    dataset: str | None = _DATASET,
    dry_run: bool = typer.Option(False, "--dry-run", help="Only say which would go."),
    on: datetime | None = typer.Option(
        None, "--on", formats=["%Y-%m-%d"], help="With --dry-run: which would go on that day."
    ),
) -> None:
    """Keep partitions that have outlived their contract's retention as Parquet alone; each is verified before it goes."""
    from tidegate.contracts import load, load_all
    from tidegate.errors import UsageError
    from tidegate.publish import partitions, retention
    from tidegate.settings import get_settings
    from tidegate.stores.postgres import connect

    if on is not None and not dry_run:
        raise UsageError("--on asks what would be archived on another day: say --dry-run with it")
    now = on.replace(tzinfo=UTC) if on else datetime.now(UTC)
    settings = get_settings()
    outcomes = []
    for contract in [load(settings, dataset)] if dataset else load_all(settings):
        with connect(settings) as connection:
            due = [kept for kept in retention.partitions(connection, contract) if kept.outlived(now)]
            written = [one for one in retention.written(connection, contract) if one.outlived(now)]
        for kept in due if dry_run else ():
            typer.echo(
                f"{contract.dataset} {kept.batch.partition}: {kept.batch.accepted_count} rows would be archived, "
                f"kept until {kept.until:%Y-%m-%d}"
            )
        for one in written if dry_run else ():
            typer.echo(
                f"{contract.dataset} {one.partition}: its rows would be archived, kept until {one.until:%Y-%m-%d}"
            )
        if not dry_run:
            outcomes += [(contract.dataset, one) for one in partitions.archive_outlived(settings, contract, now)]
    for name, outcome in outcomes:
        batch, told = outcome.batch, str(outcome.trouble)
        if batch is not None and outcome.trouble is None:
            told = f"batch {batch.batch_id} is archived, {batch.accepted_count} rows in {batch.landing_url}"
        typer.echo(f"{name} {outcome.partition}: {told}", err=outcome.trouble is not None)
    partitions.require_no_trouble([outcome for _, outcome in outcomes])


def restore(
    dataset: str = typer.Argument(help="The dataset."),
    partition: str = typer.Argument(help="Its partition, such as 2013-03."),
    why: str = typer.Option(..., "--why", help="The reason, kept in the ledger."),
    by: str = typer.Option(getpass.getuser(), "--as", help="Who decides."),
) -> None:
    """Make an archived partition visible again; it stays for 30 days at least."""
    from tidegate.contracts import load
    from tidegate.publish import partitions
    from tidegate.settings import get_settings

    settings = get_settings()
    batch = partitions.restore(settings, load(settings, dataset), partition, by=by, why=why)
    typer.echo(f"{dataset} {partition}: batch {batch.batch_id} is published again, {batch.accepted_count} rows")
