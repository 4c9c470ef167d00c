"""`tidegate audit list | verify`: who did what to classified values and to the schema."""

from __future__ import annotations

from datetime import datetime

import typer

_JSON = typer.Option(False, "--json", help="As JSON, for scripts.")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    group = typer.Typer(help="Who did what to classified values and to the schema.", no_args_is_help=True)
    group.command("list")(list_)
    group.command()(verify)
    app.add_typer(group, name="audit")


def list_(
    since: datetime | None = typer.Option(None, help="Only what happened since then."),
    object: str | None = typer.Option(None, help="A part of the table's name, such as bookings."),
    who: str | None = typer.Option(None, help="A login, or the role that it acted as."),
    limit: int = typer.Option(100, "--limit", "-n", min=1, help="How many, the newest first."),
    json: bool = _JSON,
) -> None:
    """Show what was recorded, the newest first; values are not in it."""
    from tidegate.commands._display import print_json, print_table
    from tidegate.gates import audit
    from tidegate.settings import get_settings
    from tidegate.stores.postgres import connect

    with connect(get_settings()) as connection:
        # What a person types is meant in this machine's zone.
        moment = since.astimezone() if since else None
        found = audit.lines(connection, since=moment, object=object, who=who, limit=limit)
    if json:
        print_json(found)
        return
    print_table(
        ("line", "when", "login", "as", "program", "action", "object", "rows", "detail"),
        [
            (line.audit_id, line.occurred_at, line.login, line.role_name, line.application_name, line.action, line.object,
             line.row_count, line.detail)
            for line in found
        ],
    )  # fmt: skip


def verify(json: bool = _JSON) -> None:
    """Read the whole chain again: status 1 if a line was changed, removed or put in, or a table is not watched."""
    from tidegate.commands._display import print_json
    from tidegate.contracts import load_all
    from tidegate.gates import audit_chain
    from tidegate.settings import get_settings

    settings = get_settings()
    report = audit_chain.verify(settings, load_all(settings))
    if json:
        print_json(report)
    else:
        for finding in report.findings:
            typer.echo(finding.what)
        for name in report.unwatched:
            typer.echo(
                f"{name} holds classified columns, and writes to it are not recorded: its next publish mends that"
            )
        for told in report.notes:
            typer.echo(told)
        if not report.ddl:
            typer.echo(
                "commands that change the schema are recorded where they pass tidegate's own door (ops.schema_change), others "
                "are not: an administrator runs migrations/audit.sql in the warehouse"
            )
        if report.whole:
            typer.echo(f"{report.lines} lines, whole up to {report.head[:12] or 'nothing'}")
    if not report.whole:
        raise typer.Exit(1)
