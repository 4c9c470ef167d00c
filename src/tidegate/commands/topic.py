"""`tidegate topic list | create | tail | lag`: the topics of Kafka by hand."""

from __future__ import annotations

import re
from datetime import timedelta

import typer

_UNITS = {"ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_SPAN = re.compile(r"(\d+)\s*(ms|s|m|h|d|w)")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    commands = typer.Typer(help="The topics of Kafka: list, create, tail, lag.", no_args_is_help=True)
    commands.command("list")(list_)
    commands.command()(create)
    commands.command()(tail)
    commands.command()(lag)
    app.add_typer(commands, name="topic")


def list_(as_json: bool = typer.Option(False, "--json", help="For programs: one JSON list.")) -> None:
    """Show every topic: its partitions, how many messages it holds, for how long they are kept."""
    from tidegate.commands._display import print_json, print_table
    from tidegate.settings import get_settings
    from tidegate.stores import topics

    found = topics.listed(get_settings())
    if as_json:
        kept = [topic.retention.total_seconds() if topic.retention is not None else None for topic in found]
        print_json(
            [
                {
                    "name": topic.name,
                    "partitions": topic.partitions,
                    "messages": topic.messages,
                    "retention_seconds": seconds,
                }
                for topic, seconds in zip(found, kept, strict=True)
            ]
        )
        return
    rows = [(topic.name, topic.partitions, topic.messages, topic.retention or "for ever") for topic in found]
    print_table(("topic", "partitions", "messages", "kept for"), rows)


def create(
    name: str = typer.Argument(help="Of the topic: letters, digits, '.', '_' and '-'."),
    partitions: int = typer.Option(4, "--partitions", min=1, max=1000, help="As many workers can share it."),
    retention: str = typer.Option(None, "--retention", help="How long messages are kept, as 12h, 7d or `forever`."),
) -> None:
    """Make a topic; one that a contract names keeps messages for as long as that says, unless told otherwise."""
    from tidegate.contracts import load_all
    from tidegate.settings import get_settings
    from tidegate.stores import topics

    settings = get_settings()
    agreed = {contract.topic.name: contract.topic.kept for contract in load_all(settings) if contract.topic is not None}
    topics.create(settings, name, partitions=partitions, retention=_span(retention) if retention else agreed.get(name))
    typer.echo(f"made {name} with {partitions} partition{'' if partitions == 1 else 's'}")


def tail(
    name: str = typer.Argument(help="A topic's name, as `tidegate topic list` shows it."),
    lines: int = typer.Option(10, "--lines", "-n", min=0, help="How many of the last messages to print first."),
    follow: bool = typer.Option(False, "--follow", "-f", help="Go on printing what comes."),
) -> None:
    """Print the last messages of a topic, a line each: partition:offset, when it came, key, value."""
    from tidegate.commands._display import print_line
    from tidegate.settings import get_settings
    from tidegate.stores import topics

    for message in topics.tail(get_settings(), name, lines, follow=follow):
        at = message.at.isoformat(timespec="milliseconds")
        place = f"{message.partition}:{message.offset}"
        print_line(f"{place}  {at}  {_shown(message.key)}  {_shown(message.value)}")


def lag(
    name: str = typer.Argument(help="A topic's name, as `tidegate topic list` shows it."),
    group: str = typer.Option("tidegate", "--group", help="Whose offsets: a group of consumers that the broker knows."),
    as_json: bool = typer.Option(False, "--json", help="For programs: one JSON list."),
) -> None:
    """Show how far a topic has been read, by partition."""
    from tidegate.commands._display import print_json, print_table
    from tidegate.settings import get_settings
    from tidegate.stores import topics

    settings = get_settings()
    found = topics.lag(settings, name, topics.committed(settings, name, group))
    if as_json:
        print_json(found)
        return
    rows = [(one.partition, one.first, one.end, one.position, one.lag) for one in found]
    print_table(("partition", "first kept", "end", "next to read", "lag"), rows)


def _span(text: str) -> timedelta:
    """Read `12h`; milliseconds are the smallest unit, and Kafka's -1 (`forever`) keeps all."""
    if text == "forever":
        return timedelta(milliseconds=-1)
    found = _SPAN.fullmatch(text.strip())
    if found is None or not int(found[1]):
        raise typer.BadParameter(f"found {text!r}, expected a span as 90m, 12h, 7d or 4w, or `forever`.")
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])


def _shown(told: bytes | None) -> str:
    """Return bytes as text, what is none as escapes: a message was written by somebody else."""
    return "-" if told is None else told.decode(errors="backslashreplace")
