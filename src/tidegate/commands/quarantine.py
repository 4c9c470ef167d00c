"""`tidegate quarantine`: see refused rows and messages, take them out for repair, and replay them."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from tidegate.ingest.refused_messages import RefusedMessage
    from tidegate.settings import Settings
    from tidegate.stores.postgres import Connection

_JSON = typer.Option(False, "--json", help="As JSON, for scripts.")
_DATASET = typer.Option(None, "--dataset", help="Only of this dataset.")
_BATCH = typer.Option(None, "--batch", help="Only of this batch (its id may be cut short).")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    quarantine = typer.Typer(help="See refused rows and messages, take them out for repair, and replay them.")
    app.add_typer(quarantine, name="quarantine", no_args_is_help=True)
    quarantine.command("list")(list_)
    for command in (show, export, replay):
        quarantine.command()(command)


def list_(dataset: str | None = _DATASET, json: bool = _JSON) -> None:
    """Count refused rows by batch, and refused messages by topic, by rule and state."""
    from tidegate.commands._display import print_json, print_table
    from tidegate.ingest import quarantine, refused_messages
    from tidegate.settings import get_settings
    from tidegate.stores.postgres import connect

    with connect(get_settings()) as connection:
        found = quarantine.counts(connection, dataset)
        messages = refused_messages.counts(connection, dataset)
    if json:
        print_json(found + messages)
        return
    columns = ("dataset", "partition", "batch", "column", "rule", "state", "rows")
    print_table(
        columns,
        [
            (r["dataset"], r["partition"], r["batch_id"], r["column_name"], r["rule"], r["state"], r["rows"])
            for r in found
        ],
    )
    print_table(
        ("dataset", "topic", "column", "rule", "state", "messages"),
        [tuple(m[c] for c in ("dataset", "topic", "column_name", "rule", "state", "messages")) for m in messages],
    )


def show(
    subject: str = typer.Argument(help="The number of a refused row (12) or message (m12), or the id of a batch."),
    json: bool = _JSON,
) -> None:
    """Show one refused row or message as it came, or list those of a batch."""
    from tidegate.commands._display import print_facts, print_json, print_table
    from tidegate.errors import UsageError
    from tidegate.gates import ledger
    from tidegate.ingest import quarantine, refused_messages
    from tidegate.settings import get_settings
    from tidegate.stores.postgres import connect

    settings = get_settings()
    with connect(settings) as connection:
        if messages := _messages(connection, subject):
            _show_messages(refused_messages.opened(settings, messages), one=subject.startswith("m"), json=json)
            return
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


def _messages(connection: Connection, subject: str) -> list[RefusedMessage]:
    """Return the refused message of that number, or those of that micro-batch."""
    from tidegate.ingest.refused_messages import messages
    from tidegate.stream import repair

    number = subject.removeprefix(repair.MARK)
    if subject.startswith(repair.MARK) and number.isdigit():
        return messages(connection, ids=[int(number)])
    return messages(connection, batch_id=subject)


def _show_messages(messages: list[RefusedMessage], *, one: bool, json: bool) -> None:
    from dataclasses import asdict

    from tidegate.commands._display import print_facts, print_json, print_table

    def shown(content: bytes | None) -> str | None:
        return None if content is None else content.decode(errors="backslashreplace")

    facts = [
        {**asdict(m), "message_key": shown(m.message_key), "message_value": shown(m.message_value)} for m in messages
    ]
    if json:
        print_json(facts[0] if one else facts)
    elif one:
        print_facts({name: value for name, value in facts[0].items() if value is not None})
    else:
        print_table(
            ("message", "place", "column", "value", "expected", "state"),
            [(f"m{m.refused_message_id}", m.place, m.column_name, m.value, m.expected, m.state) for m in messages],
        )


def export(
    to: Path = typer.Option(..., "--to", help="The file to write: CSV for rows, lines of JSON (.jsonl) for messages."),
    dataset: str | None = _DATASET,
    batch: str | None = _BATCH,
) -> None:
    """Write the open rows, or messages, of one dataset to a file in which they can be repaired."""
    from tidegate.contracts import load
    from tidegate.errors import UsageError
    from tidegate.gates import ledger
    from tidegate.ingest import quarantine, sheet
    from tidegate.settings import get_settings
    from tidegate.stores.postgres import connect
    from tidegate.stream import repair

    settings = get_settings()
    if repair.is_export(to):
        _export_messages(settings, to, dataset, batch)
        return
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


def _export_messages(settings: Settings, to: Path, dataset: str | None, batch: str | None) -> None:
    from tidegate.errors import UsageError
    from tidegate.ingest.refused_messages import messages, opened
    from tidegate.stores.postgres import connect
    from tidegate.stream import repair

    with connect(settings) as connection:
        found = messages(connection, dataset=dataset, batch_id=batch, state="open")
    datasets = sorted({message.dataset for message in found})
    if len(datasets) > 1:
        raise UsageError(f"refused messages wait for {', '.join(datasets)}: say which with --dataset or --batch")
    if not found:
        raise UsageError("no open message in quarantine matches; `tidegate quarantine list` shows what there is")
    if to.exists():
        raise UsageError(f"{to} exists already, perhaps with somebody's repairs: name another file")
    count = repair.export(opened(settings, found), to)
    typer.echo(f"{count} refused messages of {datasets[0]} written to {to}: repair `value` in each line, then")
    typer.echo(f"tidegate quarantine replay {to}")


def _replay_messages(settings: Settings, file: Path) -> None:
    from tidegate.errors import SourceError
    from tidegate.stream import repair

    done = repair.replay(settings, file)
    before = f", {done.before} were replayed before" if done.before else ""
    known = f", {done.known} known already" if done.known else ""
    typer.echo(f"{done.contract.dataset}: {done.taken} messages accepted{known}, {len(done.refused)} refused{before}")
    if done.refused:
        wrong = [
            f"{file}:{line}: message m{number}{f', column {r.column}' if r.column else ''}: "
            # Errors are kept in logs, and shown to whoever looks over a shoulder.
            f"found {'something else' if done.contract.discreet else repr(r.found)}, expected {r.expected}"
            for number, (line, r) in sorted(done.refused.items())
        ]
        raise SourceError(
            "\n".join([*wrong, "these messages stay in quarantine: repair them in the file and replay it again"])
        )


def replay(
    file: Path = typer.Argument(help="A file that export wrote and somebody repaired."),
    by: str = typer.Option(getpass.getuser(), "--as", help="Who repaired the rows."),
) -> None:
    """Sift what was repaired again and publish what the contract accepts: rows with the rest of their partition."""
    from tidegate import wave
    from tidegate.errors import HeldError, SourceError
    from tidegate.ingest.replay import land_repaired
    from tidegate.settings import get_settings
    from tidegate.stream import repair

    settings = get_settings()
    if repair.is_export(file):
        _replay_messages(settings, file)
        return
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
