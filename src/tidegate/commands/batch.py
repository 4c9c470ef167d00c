"""`tidegate batch`: see deliveries, and decide about those that a gate holds."""

from __future__ import annotations

import getpass

import typer

_ID = typer.Argument(help="The batch's id, or as much of it as names it alone.")
_WHY = typer.Option(..., "--why", help="The reason, kept in the ledger.")
_BY = typer.Option(getpass.getuser(), "--as", help="Who decides.")
_JSON = typer.Option(False, "--json", help="As JSON, for scripts.")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    batch = typer.Typer(help="See deliveries, and decide about those that a gate holds.")
    app.add_typer(batch, name="batch", no_args_is_help=True)
    batch.command("list")(list_)
    for command in (show, release, reject, undo):
        batch.command()(command)


def list_(
    dataset: str | None = typer.Option(None, "--dataset", help="Only of this dataset."),
    state: str | None = typer.Option(None, "--state", help="Only in this state, such as held."),
    json: bool = _JSON,
) -> None:
    """List batches in the order of their arrival."""
    from tidegate.commands._display import print_json, print_table
    from tidegate.gates import ledger
    from tidegate.settings import get_settings
    from tidegate.stores.postgres import connect

    with connect(get_settings()) as connection:
        found = ledger.batches(connection, dataset=dataset, state=state)
    if json:
        print_json(found)
        return
    columns = (
        "batch",
        "dataset",
        "partition",
        "state",
        "delivered",
        "accepted",
        "refused",
        "arrived",
        "source",
    )
    rows = [
        (b.batch_id, b.dataset, b.partition, b.state, b.delivered_count, b.accepted_count, b.refused_count,
         b.created_at, b.source_name)
        for b in found
    ]  # fmt: skip
    print_table(columns, rows)


def show(batch_id: str = _ID, json: bool = _JSON) -> None:
    """Show one batch: its steps, what each gate said, what was decided."""
    from tidegate.commands._display import print_facts, print_json, print_table
    from tidegate.gates import ledger
    from tidegate.settings import get_settings
    from tidegate.stores.postgres import connect

    with connect(get_settings()) as connection:
        batch = ledger.get_batch(connection, batch_id)
        verdicts = ledger.verdicts_of(connection, batch.batch_id)
        steps = ledger.steps_of(connection, batch.batch_id)
        decisions = ledger.decisions_on(connection, batch.batch_id)
    if json:
        print_json({"batch": batch, "steps": steps, "verdicts": verdicts, "decisions": decisions})
        return
    print_facts({name.removesuffix("_id"): value for name, value in vars(batch).items() if value is not None})
    print_table(("step", "seconds", "rows"), [(s["step"], f"{s['seconds']:.2f}", s["row_count"]) for s in steps])
    print_table(
        ("verdict", "gate", "rule", "value", "target", "written in"),
        [(v.verdict, v.gate, v.rule, v.value, v.target, v.target_source) for v in verdicts],
    )
    print_table(
        ("decision", "by", "at", "why"),
        [(d["action"], d["decided_by"], d["decided_at"], d["why"]) for d in decisions],
    )


def release(batch_id: str = _ID, why: str = _WHY, by: str = _BY) -> None:
    """Let a held batch through and publish it, on your word."""
    from tidegate.contracts import load
    from tidegate.gates import ledger
    from tidegate.publish import batches
    from tidegate.settings import get_settings
    from tidegate.stores.postgres import connect

    settings = get_settings()
    with connect(settings) as connection:
        batch = ledger.get_batch(connection, batch_id)
        released = any(d["action"] == "release" for d in ledger.decisions_on(connection, batch.batch_id))
    # Released before, but not published because readers held the table: only that is left to do.
    if not (batch.state in ("judged", "published") and released):
        batches.release(settings, batch.batch_id, by=by, why=why)
    batch = batches.publish(settings, load(settings, batch.dataset), batch.batch_id)
    typer.echo(f"{batch.dataset} {batch.partition}: batch {batch.batch_id} is published, released by {by}")


def reject(batch_id: str = _ID, why: str = _WHY, by: str = _BY) -> None:
    """Turn a held batch down; its rows stay in the archive."""
    from tidegate.publish import batches
    from tidegate.settings import get_settings

    batch = batches.reject(get_settings(), batch_id, by=by, why=why)
    typer.echo(f"{batch.dataset} {batch.partition}: batch {batch.batch_id} is rejected by {by}")


def undo(batch_id: str = _ID, why: str = _WHY, by: str = _BY) -> None:
    """Take a published batch back; readers see the one before it again."""
    from tidegate.contracts import load
    from tidegate.gates import ledger
    from tidegate.publish import batches
    from tidegate.settings import get_settings
    from tidegate.stores.postgres import connect

    settings = get_settings()
    with connect(settings) as connection:
        batch = ledger.get_batch(connection, batch_id)
    before = batches.undo(settings, load(settings, batch.dataset), batch.batch_id, by=by, why=why)
    now = f"readers see batch {before.batch_id} again" if before else "the partition has no rows now"
    typer.echo(f"{batch.dataset} {batch.partition}: batch {batch.batch_id} is taken back; {now}")
