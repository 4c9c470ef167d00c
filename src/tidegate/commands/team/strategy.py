"""`team strategy check | show | new`: what a strategy document says, what is missing in it, and a new one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from tidegate.strategy.judges import Judged

_PATH = typer.Argument(help="The strategy document.", show_default=False)
_JSON = typer.Option(False, "--json", help="As JSON, for scripts.")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    strategy = typer.Typer(help="Check, show and begin strategy documents.", no_args_is_help=True)
    strategy.command()(check)
    strategy.command()(show)
    strategy.command()(new)
    app.add_typer(strategy, name="strategy")


def check(path: Path = _PATH, json: bool = _JSON) -> None:
    """Read every field; say what is to be filled in, what contradicts, and what no gate can measure yet.

    Ends with status 1 when the strategy cannot be used as it is; what may stay open, or is not measurable, is only told.
    """
    from tidegate.commands._display import print_json, print_line, print_table
    from tidegate.strategy.check import check
    from tidegate.strategy.fields import every_field
    from tidegate.strategy.read import look

    seen = look(path)
    findings = check(seen)
    fatal = [finding for finding in findings if finding.fatal]
    fields = every_field(seen.strategy)
    if json:
        print_json(
            {
                "path": str(path),
                "usable": not fatal,
                "fields": [{"name": f.name, "line": f.line, "text": f.text, "filled": not f.blank} for f in fields],
                "findings": [{"kind": f.kind, "line": f.line, "told": f.told, "fatal": f.fatal} for f in findings],
            }
        )
    else:
        print_table(("line", "field", "value"), [(f.line, f.name, f.text) for f in fields if not f.blank])
        typer.echo("")
        for finding in findings:
            print_line(f"{path}:{finding.line}: {finding.kind}: {finding.told}")
        filled = sum(not f.blank for f in fields)
        state = f"{len(fatal)} findings keep it from being used" if fatal else "it can be used"
        print_line(f"{path}: {filled} of {len(fields)} values are filled in; {state}")
    if fatal:
        raise typer.Exit(1)


def show(path: Path = _PATH, json: bool = _JSON) -> None:
    """Show targets and launch criteria, each with the gate that will judge it, by which figure of which probe."""
    from tidegate.commands._display import print_json, print_line, print_table
    from tidegate.strategy import read
    from tidegate.strategy.judges import judged

    rows = [_row(one) for one in judged(read(path))]
    if json:
        print_json(rows)
        return
    columns = ("line", "kind", "what", "target", "gate", "probe", "figure")
    print_table(columns, [[row[column] for column in columns] for row in rows])
    missing = [row for row in rows if row["missing"]]
    typer.echo(f"\n{len(missing)} of {len(rows)} are not measurable yet:")
    for row in missing:
        print_line(f"{path}:{row['line']}: {row['what']}: {row['missing']}")


def _row(one: Judged) -> dict[str, Any]:
    bound = one.target.bound if one.target else None
    needs = one.judge.needs or (f"{bound}" if bound and one.judge.probe else "")
    return {
        "line": one.line, "kind": one.kind, "what": one.text, "measure": one.measure or None, "target": str(bound) if bound else None,
        "condition": one.target.condition or None if one.target else None, "gate": one.judge.gate and one.judge.gate.value,
        "probe": one.judge.probe or None, "figure": f"{one.judge.figure} {needs}" if one.judge.probe else None,
        "unit": one.judge.unit, "missing": one.judge.missing or None,
    }  # fmt: skip


def new(
    path: Path = typer.Argument(
        None, help="Where to write it; strategies/<team>.md, if not given.", show_default=False
    ),
    team: str = typer.Option(..., "--team", help="databaseEng, dataEng or pythonData."),
) -> None:
    """Write an annotated strategy to fill in; what is there already is not overwritten."""
    from tidegate.settings import get_settings
    from tidegate.strategy import draft

    place = path or get_settings().project / "strategies" / f"{draft.kind(team).file}.md"
    draft.write(team, place)
    typer.echo(f"wrote {place}; `team strategy check {place}` tells what is to be filled in")
