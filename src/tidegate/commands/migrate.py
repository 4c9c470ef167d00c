"""`tidegate migrate`: bring the warehouse's own schema up or down, seeing first what will be run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from tidegate.migrate.steps import Step

_MEANT = typer.Option(False, "--yes-i-mean-it", help="Do it even though it takes something from readers.")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    migrate = typer.Typer(help="Bring the warehouse's own schema up or down.")
    app.add_typer(migrate, name="migrate", no_args_is_help=True)
    for command in (status, plan, up, down):
        migrate.command()(command)


def status(json: bool = typer.Option(False, "--json", help="As JSON, for scripts.")) -> None:
    """Show every migration, and which of them this warehouse has."""
    from tidegate.commands._display import print_json, print_table
    from tidegate.migrate import door
    from tidegate.settings import get_settings
    from tidegate.stores.postgres import warehouse_url

    settings = get_settings()
    found = door.standing(warehouse_url(settings), settings.project)
    if json:
        names = ("revision", "phase", "title", "applied", "changed_at", "changed_by")
        print_json([dict(zip(names, _facts(*standing), strict=True)) for standing in found])
        return
    rows = [_facts(*standing) for standing in found]
    print_table(
        ("migration", "phase", "what it does", "state", "at", "by"),
        [(*row[:3], "applied" if row[3] else "pending", *row[4:]) for row in rows],
    )


def _facts(step: Step, *standing: object) -> tuple[object, ...]:
    return (step.revision, step.phase, step.title, *standing)


def plan(to: str = typer.Option("head", "--to", help="The migration to end at; `base` for none.")) -> None:
    """Print the SQL that would be run, and run nothing."""
    from tidegate.migrate import door
    from tidegate.settings import get_settings
    from tidegate.stores.postgres import warehouse_url

    settings = get_settings()
    direction, todo = door.plan(warehouse_url(settings), settings.project, to)
    _show(direction, todo)


def _show(direction: str, todo: list[Step]) -> None:
    from tidegate.migrate.steps import losses

    for step in todo:
        statements = step.up if direction == "up" else step.down
        typer.echo(f"-- {step.revision} {direction} ({step.phase}): {step.title}")
        for loss in losses(statements):
            typer.echo(f"-- takes away for good: {loss}")
        typer.echo(statements.strip() + "\n")
    if not todo:
        typer.echo("-- nothing to do")


def up(
    to: str = typer.Option("head", "--to", help="The migration to end at."),
    pre: bool = typer.Option(False, "--pre", help="Stop before the first that must wait for new code (post)."),
    yes_i_mean_it: bool = _MEANT,
) -> None:
    """Apply what is pending, after showing its SQL; a dump is taken before anything is lost for good."""
    from tidegate.errors import UsageError
    from tidegate.migrate import door
    from tidegate.migrate.steps import losses
    from tidegate.settings import get_settings
    from tidegate.stack.dump import before
    from tidegate.stores.postgres import warehouse_url

    settings = get_settings()
    url = warehouse_url(settings)
    direction, todo = door.plan(url, settings.project, to)
    if direction == "up" and pre:
        todo = todo[: next((n for n, step in enumerate(todo) if step.phase == "post"), len(todo))]
    if direction == "up":
        _show("up", todo)
        losing = [step for step in todo if losses(step.up)]
        if losing and not yes_i_mean_it:
            named = ", ".join(step.revision for step in losing)
            raise UsageError(
                f"migration {named} takes something away for good (see above); nothing was run: say --yes-i-mean-it, "
                "and a dump is taken first"
            )
    if direction == "down" or todo:
        target = todo[-1].revision if direction == "up" else to
        done = door.upgrade(
            url, settings.project, target, safeguard=lambda step: _dump(before(settings, step.revision))
        )
        typer.echo(f"applied: {', '.join(step.revision for step in done)}")


def _dump(path: object) -> None:
    typer.echo(f"-- dumped to {path}")


def down(
    to: str = typer.Option(..., "--to", help="The migration to end at; `base` for none."),
    yes_i_mean_it: bool = _MEANT,
) -> None:
    """Take migrations back, the last first; what they held is set aside and comes back with `up`."""
    from tidegate.errors import UsageError
    from tidegate.migrate import door
    from tidegate.settings import get_settings
    from tidegate.stores.postgres import warehouse_url

    settings = get_settings()
    url = warehouse_url(settings)
    direction, todo = door.plan(url, settings.project, to)
    if direction == "down":
        _show("down", todo)
        if not yes_i_mean_it:
            raise UsageError(
                "this takes from readers and programs what the migrations above gave them (it is set aside, not lost); "
                "nothing was run: say --yes-i-mean-it"
            )
    done = door.downgrade(url, settings.project, to)
    typer.echo(f"taken back: {', '.join(step.revision for step in done)}" if done else "-- nothing to do")
