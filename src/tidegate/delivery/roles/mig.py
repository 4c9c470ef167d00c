"""What the migration engineer writes: every migration with its locks, its way back as it was timed, and how readers go on."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from tidegate.delivery.cited import Asked, cite, figures, file, shown, why_not
from tidegate.delivery.ledger import Exhibit
from tidegate.delivery.markdown import code, head, link, table
from tidegate.delivery.work import Work
from tidegate.errors import StackError
from tidegate.migrate import door, steps
from tidegate.migrate.door import Standing
from tidegate.migrate.locks import AGAINST_READERS, AGAINST_WRITERS
from tidegate.migrate.steps import Step
from tidegate.stores.postgres import LOCK_TIMEOUT, warehouse_url

_ALTERED = re.compile(r"\b(?:ALTER TABLE|UPDATE) (\w+\.\w+)")


def migration_strategy(work: Work) -> str:
    """Return how the schema changes here, by what the migrations that there are really do."""
    stands = _stands(work)
    phases = Counter(one.step.phase for one in stands)
    pending = [one.step.revision for one in stands if not one.applied]
    aside = [one.step.revision for one in stands if _sets_aside(one.step)]
    losing = {one.step.revision: steps.losses(one.step.up) for one in stands if steps.losses(one.step.up)}
    return "\n".join([
        *head(work, "How the schema changes"),
        f"{len(stands)} migrations, {phases['pre']} before the code that needs them and {phases['post']} after the code that does not need "
        f"any more what they take away; the warehouse stands at {next((s.step.revision for s in reversed(stands) if s.applied), 'base')}, "
        f"pending: {', '.join(pending) or 'none'}. A migration waits {LOCK_TIMEOUT} for a lock, gives way to readers, and is tried "
        f"five times ({file(work, 'src/tidegate/migrate/door.py')}).",
        "",
        *figures(work, [
            Asked("migrations that went down and up again over the warehouse's rows", "migration_full_chain", "migrations"),
            Asked("rows compared afterwards", "migration_full_chain", "rows"),
            Asked("tables that differed", "migration_full_chain", "tables_that_differ"),
            Asked("lines of the schema that differed", "migration_full_chain", "schema_lines_that_differ"),
            Asked("files of migrations that sqlfluff read", "sqlfluff", "files"),
            Asked("violations that it found", "sqlfluff", "violations"),
        ]),
        "## What nothing brings back",
        "",
        f"{len(aside)} ways down set rows aside in a schema of their own ({', '.join(aside) or 'none'}), from which the way up takes them "
        f"again. {len(losing)} ways up take something away for good; the warehouse is dumped before each of these:",
        "",
        *table(["revision", "what goes"], [[revision, "; ".join(f"`{one}`" for one in lost)] for revision, lost in losing.items()]),
        "## When each was applied here",
        "",
        *table(
            ["revision", "phase", "what", "applied", "by"],
            [
                [s.step.revision, s.step.phase, s.step.title, f"{s.changed_at:%Y-%m-%d %H:%M}" if s.changed_at else "yes" if s.applied else "pending", s.changed_by]
                for s in stands
            ],
        ),
    ])  # fmt: skip


def migration_scripts(work: Work) -> str:
    """Return the list of migrations: their statements, the locks that they were seen to take, how long they took."""
    ways = _ways(work)
    rows: list[list[Any]] = []
    for step in steps.read(work.settings.project):
        up = ways.get((step.revision, "up"))
        rows.append([
            _script(work, step), step.phase, step.title, _statements(step.up), _statements(step.down),
            "yes" if _sets_aside(step) else "", shown(up.figures["seconds"], "s") if up else "not measured",
            link(up) if up else "",
        ])  # fmt: skip
    held = [(one, mode) for one in ways.values() for mode in (one.figures.get("locks") or {}).values()]
    strong = sum(mode in AGAINST_READERS for _, mode in held)
    return "\n".join([
        *head(work, "The migrations, one by one"),
        "Statements are counted by their ends, a function's body among them; times are of an empty database, where a migration of "
        f"{len(rows)} does its work alone.",
        "",
        *table(["script", "phase", "what", "statements up", "down", "sets rows aside", "up took", "evidence"], rows),
        "## Locks on tables that were there before",
        "",
        f"{len(held)} locks were seen when each way up was run and taken back; {strong} of them keep readers out while they are held."
        if held else f"No lock is known: {why_not(work, 'migration_each')}.",
        "",
        *table(
            ["revision", "table", "strongest lock", "whom it keeps out"],
            [
                [revision, f"`{name}`", mode, "readers and writers" if mode in AGAINST_READERS else "writers" if mode in AGAINST_WRITERS else "nobody"]
                for (revision, way), one in ways.items() if way == "up"
                for name, mode in (one.figures.get("locks") or {}).items()
            ],
        ),
    ])  # fmt: skip


def rollback_procedures(work: Work) -> str:
    """Return for each migration the command that takes it back, with the time that it took and what was compared."""
    ways, known = _ways(work), steps.read(work.settings.project)
    rows = []
    for step in reversed(known):
        down, again = ways.get((step.revision, "down")), ways.get((step.revision, "reup"))
        differs = [one.figures["schema_lines_that_differ"] for one in (down, again) if one]
        rows.append([
            step.revision, f"`tidegate migrate down --to {step.before} --yes-i-mean-it`",
            shown(down.figures["seconds"], "s") if down else "not measured",
            shown(again.figures["seconds"], "s") if again else "not measured",
            sum(differs) if differs else "", f"`{step.aside}`" if _sets_aside(step) else "nothing to set aside",
            link(down) if down else "",
        ])  # fmt: skip
    total = sum(float(one.figures["seconds"]) for (_, way), one in ways.items() if way == "down")
    return "\n".join([
        *head(work, "How each migration is taken back"),
        f"The last first. All {len(rows)} one after the other took {total:.1f} s down in an empty database; over the warehouse's own rows "
        f"the last one took {cite(work, 'migration_last', 'seconds', 's')}." if ways else f"No way back was timed: {why_not(work, 'migration_each')}.",
        "",
        *table(["revision", "to take it back", "down", "up again", "schema lines that differed", "rows are kept in", "evidence"], rows),
        "## The newest, to the letter",
        "",
        f"`{known[-1].revision}` ({known[-1].title}) goes back by these statements, in one transaction:",
        "",
        *code(known[-1].down, "sql"),
        "## After it",
        "",
        *figures(work, [
            Asked("tables whose rows differed after the whole chain", "migration_full_chain", "tables_that_differ"),
            Asked("seconds of the last way down, with rows", "migration_last", "seconds", "s"),
        ]),
    ])  # fmt: skip


def zero_downtime_plan(work: Work) -> str:
    """Return how a change goes in while people read: the pair that was made so, and what readers noticed of the last one."""
    known = steps.read(work.settings.project)
    posts = [step for step in known if step.phase == "post"]
    ways = _ways(work)
    chains = [chain for post in posts if len(chain := _chain(known, post)) > 1]
    lines = [
        *head(work, "Changing the schema while people read"),
        *figures(work, [
            Asked("migrations applied while a reader read", "staging_migration", "migrations"),
            Asked("reads meanwhile", "staging_migration", "reads"),
            Asked("reads that failed", "staging_migration", "failed_reads"),
            Asked("longest read", "staging_migration", "longest_read_ms", "ms"),
            Asked("queries while the server was restarted behind the pool", "pool_drain", "queries"),
            Asked("of these, failed", "pool_drain", "failed"),
            Asked("longest wait of a client", "pool_drain", "longest_wait_seconds", "s"),
        ]),
        f"{len(chains)} of the {len(posts)} `post` migrations end a change that began with `pre` ones on the same table:",
        "",
    ]  # fmt: skip
    for chain in chains:
        lines += [
            f"## {chain[-1].revision}: {chain[-1].title}",
            "",
            *table(
                ["order", "revision", "what", "needs", "took"],
                [
                    [number, _script(work, step), step.title,
                     "before the new programs" if step.phase == "pre" else "after the last old program has ended",
                     shown(ways[step.revision, "up"].figures["seconds"], "s") if (step.revision, "up") in ways else "not measured"]
                    for number, step in enumerate(chain, 1)
                ],
            ),
        ]  # fmt: skip
    checked = [step for step in known if "VALIDATE CONSTRAINT" in step.up]
    return "\n".join([
        *lines,
        "## Rules that are looked at without keeping anybody out",
        "",
        *table(
            ["revision", "validates, with readers and writers at work"],
            [[step.revision, ", ".join(f"`{one}`" for one in _validated(step))] for step in checked],
        ),
        "## The next release",
        "",
        *_next(work, known),
    ])  # fmt: skip


def database(work: Work) -> str:
    """Return database.yml: what continuous integration runs when the schema changes, as it is in this delivery's commit.

    Raises:
        StackError: the checkout has no such workflow.
    """
    workflow = work.settings.project / ".github/workflows/database.yml"
    if not workflow.exists():
        raise StackError(
            f"expected {workflow.relative_to(work.settings.project)}, which runs what a migration must hold"
        )
    told = f"# Of the delivery {work.delivery.delivery_id}, commit {work.delivery.code_version[:12]}."
    return f"{told}\n{workflow.read_text(encoding='utf-8')}"


def _next(work: Work, known: list[Step]) -> list[str]:
    pending = [one.step for one in _stands(work) if not one.applied]
    todo = pending or known[-1:]
    said = (
        "are pending"
        if pending
        else "is the newest, applied already: the rehearsal takes it back and applies it once more"
    )
    pre, post = ([step.revision for step in todo if step.phase == phase] for phase in ("pre", "post"))
    return [
        f"{', '.join(step.revision for step in todo)} {said}.",
        "",
        *table(
            ["when", "what"],
            [
                ["before the code", f"`tidegate migrate up --pre`: {', '.join(pre) or 'nothing'}"],
                ["after the code", f"`tidegate migrate up`: {', '.join(post) or 'nothing'}"],
            ],
        ),
    ]


def _script(work: Work, step: Step) -> str:
    return file(work, f"migrations/versions/{step.path.name}", step.path.name)


def _stands(work: Work) -> list[Standing]:
    return door.standing(warehouse_url(work.settings), work.settings.project)


def _ways(work: Work) -> dict[tuple[str, str], Exhibit]:
    """Return what was measured of each migration: by revision and `up`, `down` or `reup`."""
    found = {}
    for one in work.taken_by("migration_each"):
        revision, _, way = one.path.rpartition("migration_")[2].removesuffix(".log").partition("_")
        found[revision, way] = one
    return dict(sorted(found.items()))


def _chain(known: list[Step], post: Step) -> list[Step]:
    """Return the `pre` steps right before a `post` one that are about the same tables, and it."""
    tables, chain = _altered(post), [post]
    for step in reversed(known[: known.index(post)]):
        if step.phase != "pre" or not tables & _altered(step):
            break
        chain.insert(0, step)
    return chain


def _altered(step: Step) -> set[str]:
    return set(_ALTERED.findall(step.up))


def _validated(step: Step) -> list[str]:
    return [part.split(";")[0].strip() for part in step.up.split("VALIDATE CONSTRAINT")[1:]]


def _statements(text: str) -> int:
    return sum(line.rstrip().endswith(";") for line in text.splitlines())


def _sets_aside(step: Step) -> bool:
    return f"CREATE SCHEMA {step.aside}" in step.down
