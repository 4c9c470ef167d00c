"""The topics that streams read, made where they are missing, so that messages can be sent to them at once."""

from __future__ import annotations

from contextlib import suppress

from tidegate.contracts import load_all
from tidegate.errors import TidegateError, UsageError, first_line
from tidegate.settings import Settings
from tidegate.stack.home import Say
from tidegate.stores import topics


def provide(settings: Settings, say: Say) -> list[str]:
    """Make the topic of every stream's contract that the broker lacks; return all of them, by name.

    Nothing waits for them yet: what stands in the way is said, and none are returned.
    """
    try:
        wanted = {contract.topic.name: contract.topic for contract in load_all(settings) if contract.topic is not None}
        there = {topic.name for topic in topics.listed(settings)} if wanted else set()
        for name, topic in wanted.items():
            if name not in there:
                # Whoever plays the record may make it at the same moment.
                with suppress(UsageError):
                    topics.create(settings, name, retention=topic.kept)
    except TidegateError as error:
        say(f"kafka: its topics are not made: {first_line(error)}")
        return []
    return sorted(wanted)
