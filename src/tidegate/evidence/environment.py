"""Which tools this machine has, as each tells its own version; one that is not there is told of, and fails nothing."""

from __future__ import annotations

from collections.abc import Iterator

from tidegate.errors import StackError
from tidegate.evidence.probe import CannotRunError, Finding, Ground, Ran, run
from tidegate.stack.postgres_binaries import client

#: A program and what it is asked, by the file that holds the answers.
TOOLS = {
    "psql": [["psql", "--version"]],
    "redis": [["redis-cli", "--version"]],
    "docker": [["docker", "--version"], ["docker", "compose", "version"]],
    "mongosh": [["mongosh", "--version"]],
    "flyway": [["flyway", "--version"]],
}


def tools(ground: Ground) -> Iterator[Finding]:
    """Ask every tool that a database team may use for its version."""
    for name, asked in TOOLS.items():
        answers = [_answer(ground, words) for words in asked]
        commands = [" ".join(words) for words in asked]
        lines = [
            ran.said.strip() if ran else f"{command}: not found" for command, ran in zip(commands, answers, strict=True)
        ]
        found = sum(ran is not None for ran in answers)
        yield Finding(
            f"env_{name}.txt", "\n".join(lines) + "\n", {"asked": len(asked), "found": found}, "; ".join(commands)
        )


def _answer(ground: Ground, words: list[str]) -> Ran | None:
    """Return what a tool says of itself; None where it, or the part of it that is asked, is not there."""
    try:
        program = client("psql", ground.settings.postgres_bin) if words[0] == "psql" else words[0]
        ran = run([program, *words[1:]])
    except (CannotRunError, StackError):
        return None
    return ran if ran.exit_status == 0 else None
