"""`tidegate probe`: measure one thing at a time, and write it down as evidence under `.team/evidence/`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from tidegate.evidence.probe import Outcome

_JSON = typer.Option(False, "--json", help="As JSON, for scripts.")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    probe = typer.Typer(help="Measure one thing at a time, and write it down as evidence under .team/evidence/.")
    app.add_typer(probe, name="probe", no_args_is_help=True)
    probe.command("list")(list_)
    probe.command()(run)


def list_(json: bool = _JSON) -> None:
    """List the probes: what each measures, where, and which files it writes."""
    from tidegate.commands._display import print_json, print_table
    from tidegate.evidence.probes import ALL

    if json:
        print_json([{"name": p.name, "purpose": p.purpose, "place": p.place, "files": p.files} for p in ALL])
        return
    print_table(
        ("probe", "on", "what it does", "files"), [(p.name, p.place, p.purpose, ", ".join(p.files)) for p in ALL]
    )


def run(
    names: list[str] = typer.Argument(None, help="Which probes; `tidegate probe list` names them."),
    every: bool = typer.Option(False, "--all", help="Every probe, in their order."),
    seconds: int = typer.Option(15, "--seconds", min=1, help="How long a probe that makes load goes on."),
    json: bool = _JSON,
) -> None:
    """Run probes; exit status 1 when one could not run, or a program that it ran failed.

    Those that destroy something run on a rehearsal, which is made for them unless there is one, and taken down again.
    """
    from tidegate.commands._display import print_json
    from tidegate.errors import UsageError
    from tidegate.evidence.probe import Ground, measure
    from tidegate.evidence.probes import ALL
    from tidegate.observe import logs
    from tidegate.settings import get_settings

    settings = get_settings()
    logs.configure(settings)
    known = {probe.name: probe for probe in ALL}
    if every == bool(names):
        raise UsageError("expected the names of probes, or --all: `tidegate probe list` shows what there is")
    for name in names or ():
        if name not in known:
            raise UsageError(f"no probe {name!r}: there are {', '.join(known)}")
    ground = Ground(settings, seconds, lambda said: typer.echo(said, err=True))
    outcomes = []
    try:
        for probe in ALL if every else [known[name] for name in names]:
            outcomes.append(measure(ground, probe))
            if not json:
                _show(outcomes[-1])
    finally:
        ground.close()
    if json:
        print_json(outcomes)
    if not all(outcome.ended_well for outcome in outcomes):
        raise typer.Exit(1)


def _show(outcome: Outcome) -> None:
    for found in outcome.evidence:
        told = ", ".join(f"{name} {value}" for name, value in found.figures.items())
        status = f" (exit status {found.exit_status})" if found.exit_status else ""
        typer.echo(f"{outcome.probe:22} {found.path.name}: {told}{status}")
    if outcome.reason:
        typer.echo(f"{outcome.probe:22} could not run: {outcome.reason}")
