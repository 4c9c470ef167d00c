"""`tidegate run`: the demo year through Airflow, with progress, and a summary at its end."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(run)


def run(
    with_demo: bool = typer.Option(True, "--demo/--no-demo", help="Deliver the demo year into the inbox first."),
) -> None:
    """Start the stack, take everything that waits in the inbox through it, and say what came of it."""
    from tidegate.errors import TerminalError
    from tidegate.observe import report, summary
    from tidegate.run import demo, manifest
    from tidegate.run.airflow import session
    from tidegate.run.due import due
    from tidegate.run.progress import progress
    from tidegate.run.year import INGEST, TRANSFORM, WAREHOUSE, Year
    from tidegate.settings import get_settings
    from tidegate.stack import lifecycle
    from tidegate.transforms import catalog

    settings = get_settings()
    with progress() as shown:
        with manifest.renewed(settings):
            if with_demo and (written := demo.deliver(settings)):
                shown.say(f"{written} files of the demo year delivered to {settings.inbox_path}")
            settings = lifecycle.up(settings, shown.say)
        waiting = due(settings)
        with session(settings) as airflow:
            transforms = [TRANSFORM + name for name in catalog.names(settings)]
            airflow.wait_for([*(INGEST + item.contract.dataset for item in waiting), *transforms, WAREHOUSE])
            year = Year(settings, airflow, shown)
            year.ingest(waiting)
            year.transform()
            year.build_marts()
    told = summary.summary(settings)
    page = report.build(settings)
    typer.echo("\n".join(summary.lines(told)))
    typer.echo(f"report    {page}")
    typer.echo(
        f"airflow   {settings.airflow_url} as {settings.airflow_username}; "
        "`tidegate env | grep AIRFLOW_PASSWORD` shows the password"
    )
    if year.troubles:
        raise TerminalError("not everything went through:\n  " + "\n  ".join(map(str, year.troubles)))
