"""`team report | gate check | evidence verify | queries | migrations | replication`: what there is to see of a delivery."""

from __future__ import annotations

import typer

_RUN = typer.Argument(None, metavar="[RUN]", help="Which delivery; the newest when empty.", show_default=False)
_JSON = typer.Option(False, "--json", help="As JSON, for scripts.")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`; what `tidegate` shows of the database is shown by the same commands here."""
    from tidegate.commands import availability, migrate, queries

    app.command()(report)
    gate = typer.Typer(help="The gates of a delivery.", no_args_is_help=True)
    gate.command()(check)
    app.add_typer(gate, name="gate")
    evidence = typer.Typer(help="The evidence of a delivery.", no_args_is_help=True)
    evidence.command()(verify)
    app.add_typer(evidence, name="evidence")
    app.command()(queries.queries)
    app.command("migrations")(migrate.status)
    app.command()(availability.replication)


def report(run: str = _RUN) -> None:
    """Write the slides, the PDF and the page of a delivery as it stands now."""
    from tidegate.commands.team.run import find
    from tidegate.delivery.report import press
    from tidegate.settings import get_settings

    settings = get_settings()
    for path in press.write(settings, find(settings, run).delivery_id).files:
        typer.echo(f".team/{path}")


def check(run: str = _RUN, json: bool = _JSON) -> None:
    """Let every gate judge what has been measured so far, and write nothing down; exit status 1 when one refuses."""
    from tidegate.commands._display import print_json, print_table
    from tidegate.commands.team.run import find
    from tidegate.delivery import cases
    from tidegate.delivery.judge import judge
    from tidegate.settings import get_settings

    settings = get_settings()
    place = cases.find(settings, find(settings, run).delivery_id)
    case = cases.gather(place)
    said = [verdict for gate in place.team.gates for verdict in judge(gate, case)]
    if json:
        print_json(said)
    else:
        print_table(
            ("gate", "rule", "verdict", "value", "target", "written in"),
            [(v.gate, v.rule, v.verdict, v.value, v.target, v.target_source) for v in said],
        )
    if any(verdict.verdict == "FAIL" for verdict in said):
        raise typer.Exit(1)


def verify(run: str = _RUN, json: bool = _JSON) -> None:
    """Compute every hash of the manifests again, and of the ledger's evidence; exit status 1 when one differs.

    A probe that could not run has left nothing to differ: it is told of, and the gates that need it refuse.
    """
    from tidegate.commands._display import print_json, print_line
    from tidegate.commands.team.run import find
    from tidegate.delivery import cases, manifest, work
    from tidegate.settings import get_settings

    settings = get_settings()
    place = cases.find(settings, find(settings, run).delivery_id)
    case = cases.gather(place)
    found = [*case.manifests, *manifest.strays(work.folder(settings), case.exhibits)]
    worked = {one.role for one in case.work if one.state == "done"}
    found = [
        one
        for one in found
        if one.manifest.removesuffix("_manifest.md") in worked or not one.manifest.endswith("_manifest.md")
    ]
    wrong = [one for one in found if not one.missing]
    if json:
        print_json(found)
    else:
        for one in found:
            print_line(f"{one.manifest}: {one.path}: {one.told}")
        taken = sum(1 for e in case.exhibits if e.sha256)
        typer.echo(
            f"{taken} files of evidence, {len(wrong)} not as they were taken; {len(found) - len(wrong)} probes could not run"
        )
    if wrong:
        raise typer.Exit(1)
