"""`tidegate run`: the demo year through Airflow, with progress, and a summary at its end."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from tidegate.run.year import Trouble
    from tidegate.settings import Settings

#: What a shell expects of a program that ended on Ctrl-C.
INTERRUPTED = 130


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(run)


def run(
    with_demo: bool = typer.Option(True, "--demo/--no-demo", help="Deliver the demo year into the inbox first."),
) -> None:
    """Start the stack, take everything that waits in the inbox through it, and say what came of it."""
    from tidegate.errors import TerminalError
    from tidegate.observe import dbt_docs, report, summary
    from tidegate.settings import get_settings

    try:
        settings, troubles, topics = _through_airflow(get_settings(), with_demo=with_demo)
    except KeyboardInterrupt:
        typer.echo(
            "\ntidegate: interrupted. What Airflow has begun goes on; `tidegate run` again watches it to its end and "
            "does the rest, `tidegate down` stops it.",
            err=True,
        )
        raise typer.Exit(INTERRUPTED) from None
    told = summary.summary(settings)
    page = report.build(settings)
    typer.echo("\n".join(summary.lines(told)))
    typer.echo(f"report    {page}")
    if not dbt_docs.folder(settings).exists():
        typer.echo("docs      Data Docs and dbt docs follow in the background; the report will link to them")
    typer.echo(
        f"airflow   {settings.airflow_url} as {settings.airflow_username}; "
        "`tidegate env | grep AIRFLOW_PASSWORD` shows the password"
    )
    if topics:
        typer.echo(
            f"kafka     topic {', '.join(topics)}; `tidegate replay flights --to 2013-01-02 --speed max` sends two days of events, "
            "`tidegate stream run flight_event --until-idle` takes them in"
        )
    if troubles:
        raise TerminalError("not everything went through:\n  " + "\n  ".join(map(str, troubles)))


def _through_airflow(settings: Settings, *, with_demo: bool) -> tuple[Settings, list[Trouble], list[str]]:
    """Start the stack, run what is due, and return where everything is, what went wrong, and which topics our Kafka has."""
    from tidegate.contracts.lineage import INGEST, TRANSFORM
    from tidegate.run import demo, topics
    from tidegate.run.airflow import session
    from tidegate.run.due import due
    from tidegate.run.progress import progress
    from tidegate.run.year import DOCS, WAREHOUSE, WATCH, Year
    from tidegate.stack import kafka, lifecycle
    from tidegate.stack.lifecycle import Embedded
    from tidegate.transforms import catalog

    with progress() as shown:
        # Servers are waited for; what needs none of them is done meanwhile.
        with ThreadPoolExecutor(1) as meanwhile:
            delivery = meanwhile.submit(demo.deliver, settings) if with_demo else None
            settings = lifecycle.up(settings, shown.say, if_possible=[kafka.NAME])
        if delivery and (written := delivery.result()):
            shown.say(f"{written} files of the demo year delivered to {settings.inbox_path}")
        waiting = due(settings)
        ours = Embedded.of(settings).kafka and settings.kafka_url is not None
        with ThreadPoolExecutor(1) as meanwhile, session(settings) as airflow:
            found = meanwhile.submit(topics.provide, settings, shown.say) if ours else None
            transforms = [TRANSFORM + name for name in catalog.names(settings)]
            deliveries = [INGEST + item.contract.dataset for item in waiting]
            airflow.wait_for([*deliveries, *transforms, WAREHOUSE, DOCS, *WATCH])
            year = Year(settings, airflow, shown)
            year.ingest(waiting)
            year.transform()
            year.build_marts()
            for dag_id in WATCH:
                airflow.wake(dag_id)
    return settings, year.troubles, found.result() if found else []
