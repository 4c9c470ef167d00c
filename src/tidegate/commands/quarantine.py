"""`tidegate quarantine`: see refused rows, take them out for repair, and replay them."""

from __future__ import annotations

import getpass
from pathlib import Path

import typer

_JSON = typer.Option(False, "--json", help="As JSON, for scripts.")
_DATASET = typer.Option(None, "--dataset", help="Only of this dataset.")
_BATCH = typer.Option(None, "--batch", help="Only of this batch (its id may be cut short).")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    quarantine = typer.Typer(help="See refused rows, take them out for repair, and replay them.")
    app.add_typer(quarantine, name="quarantine", no_args_is_help=True)
    quarantine.command("list")(list_)
    for command in (show, export, replay):
        quarantine.command()(command)


def list_(dataset: str | None = _DATASET, json: bool = _JSON) -> None:
    """Count refused rows by batch, rule and state."""
    from tidegate.commands._display import print_json, print_table
    from tidegate.ingest import quarantine
    from tidegate.settings import get_settings
    from tidegate.stores.postgres import connect

    with connect(get_settings()) as connection:
        found = quarantine.counts(connection, dataset)
    if json:
        print_json(found)
        return
    columns = ("dataset", "partition", "batch", "column", "rule", "state", "rows")
    print_table(
        columns,
        [
            (r["dataset"], r["partition"], r["batch_id"], r["column_name"], r["rule"], r["state"], r["rows"])
            for r in found
        ],
    )


def show(
    subject: str = typer.Argument(help="The number of a refused row, or the id of a batch."),
    json: bool = _JSON,
) -> None:
    """Show one refused row as it was delivered, or list those of a batch."""
    from tidegate.commands._display import print_facts, print_json, print_table
    from tidegate.errors import UsageError
    from tidegate.gates import ledger
    from tidegate.ingest import quarantine
    from tidegate.settings import get_settings
    from tidegate.stores.postgres import connect

    settings = get_settings()
    with connect(settings) as connection:
        # Numbers of rows are counted from 1; an id of 16 digits and letters may be all digits.
        one = quarantine.rows(connection, ids=[int(subject)]) if subject.isdigit() and len(subject) < 16 else []
        rows = one or quarantine.rows(connection, batch_id=ledger.get_batch(connection, subject).batch_id)
    if not rows:
        raise UsageError(f"no row of batch {subject} was refused")
    rows = quarantine.opened(settings, rows)
    if json:
        print_json(rows[0] if one else rows)
        return
    if one:
        facts = vars(rows[0]) | {"record": ""} | {f"  {name}": value for name, value in rows[0].record.items()}
        print_facts({name: value for name, value in facts.items() if value is not None})
        return
    print_table(
        ("row", "place", "column", "value", "expected", "state", "contract"),
        [
            (
                r.refused_row_id,
                f"{r.source_file}:{r.line}",
                r.column_name,
                r.value,
                r.expected,
                r.state,
                r.contract_version,
            )
            for r in rows
        ],
    )


def export(
    to: Path = typer.Option(..., "--to", help="The CSV file to write."),
    dataset: str | None = _DATASET,
    batch: str | None = _BATCH,
) -> None:
    """Write the open rows of one dataset to a CSV file in which they can be repaired."""
    from tidegate.contracts import load
    from tidegate.errors import UsageError
    from tidegate.gates import ledger
    from tidegate.ingest import quarantine, sheet
    from tidegate.settings import get_settings
    from tidegate.stores.postgres import connect

    settings = get_settings()
    with connect(settings) as connection:
        batch_id = ledger.get_batch(connection, batch).batch_id if batch else None
        rows = quarantine.rows(connection, dataset=dataset, batch_id=batch_id, state="open")
    datasets = sorted({row.dataset for row in rows})
    if len(datasets) > 1:
        raise UsageError(f"refused rows wait for {', '.join(datasets)}: say which with --dataset or --batch")
    if not rows:
        raise UsageError("no open row in quarantine matches; `tidegate quarantine list` shows what there is")
    if to.exists():
        raise UsageError(f"{to} exists already, perhaps with somebody's repairs: name another file")
    count = sheet.write(load(settings, datasets[0]), quarantine.opened(settings, rows), to)
    typer.echo(f"{count} refused rows of {datasets[0]} written to {to}: repair them there, then")
    typer.echo(f"tidegate quarantine replay {to}")


def replay(
    file: Path = typer.Argument(help="A CSV file that export wrote and somebody repaired."),
    by: str = typer.Option(getpass.getuser(), "--as", help="Who repaired the rows."),
) -> None:
    """Sift repaired rows again and publish those that the contract accepts with the rest of their partition."""
    from tidegate import wave
    from tidegate.errors import HeldError, SourceError
    from tidegate.ingest.replay import land_repaired
    from tidegate.settings import get_settings

    settings = get_settings()
    replayed = land_repaired(settings, file, by=by)
    before = f", {replayed.known} were replayed before" if replayed.known else ""
    typer.echo(f"{replayed.contract.dataset}: {replayed.taken} rows accepted, {len(replayed.refused)} refused{before}")
    held: list[str] = []
    for landed in replayed.batches:
        try:
            batch = wave.finish(settings, replayed.contract, landed)
        except HeldError as error:
            held.append(str(error))
        else:
            typer.echo(f"{batch.dataset} {batch.partition}: batch {batch.batch_id} is {batch.state}")
    wrong = [
        f"{file}:{r.line}: row {number}{f', column {r.column}' if r.column else ''}: found {r.value!r}, "
        f"expected {r.expected}"
        for number, r in sorted(replayed.refused.items())
    ]
    if held:
        raise HeldError("\n".join(held + wrong))
    if wrong:
        raise SourceError(
            "\n".join([*wrong, "these rows stay in quarantine: repair them in the file and replay it again"])
        )
