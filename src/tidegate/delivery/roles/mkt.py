"""What is written for people who look for data: who sees what where, and queries that have been run, as whoever may, and timed."""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row

from tidegate.contracts import Contract, load_all
from tidegate.contracts.access import CLASSIFICATIONS, is_classified, is_watched
from tidegate.contracts.model import in_words, partition_in_words
from tidegate.delivery.cited import Asked, beside, figures, file
from tidegate.delivery.markdown import code, head, table
from tidegate.delivery.work import Work
from tidegate.errors import TerminalError, first_line
from tidegate.evidence import queries
from tidegate.observe import catalog
from tidegate.stack.roles import ROLES, credentials
from tidegate.stores.postgres import Connection, connect, exists, warehouse_url, without_password

#: From the one that may least to the one that may most: a query is run as the first that may read all that it reads.
_READERS = ("analyst", "readonly", "app", "admin")
_READ = re.compile(r"\b(?:from|join)\s+(\w+\.\w+)", re.I)
#: How often a query of the cookbook is run; the middle one is told.
_TIMES = 3
_ROWS, _COLUMNS, _WIDTH = 5, 8, 40
_PATIENCE = "-c default_transaction_read_only=on -c statement_timeout=20s"


@dataclass(frozen=True)
class Recipe:
    """A query of the cookbook: what for, where it stands, what it is asked."""

    name: str
    purpose: str
    path: str
    statement: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What came of running it: as whom, in how many milliseconds, how many rows, and the first of them."""

    role: str
    milliseconds: float
    rows: int
    first: list[dict[str, Any]]


def data_access_guide(work: Work) -> str:
    """Return how to come in, as whom, and what each login really sees of each dataset."""
    contracts = load_all(work.settings)
    with connect(work.settings) as connection:
        rights = connection.execute(_RIGHTS, [list(ROLES)]).fetchall()
        members = connection.execute(_MEMBERS, [list(ROLES)]).fetchall()
        there = [c for c in contracts if exists(connection, c.schema, c.table)]
        marts = catalog.marts(connection, work.settings.project)
    schemas = sorted({row["schema"] for row in rights})
    seen = {
        (row["role"], row["schema"]): f"{row['readable']} of {row['relations']}" if row["readable"] else ""
        for row in rights
    }
    masked = [c for c in contracts if is_watched(c)]
    lines = [
        *head(work, "How to come to the data"),
        f"{len(there)} datasets and {len(marts)} marts. Look at `marts` first: they are joined and counted already; `raw` is for whoever asks "
        "what a source delivered.",
        "",
        *table(["to", "type", "in this stack"], _doors(work)),
        "## Who may read what",
        "",
        "Relations that a role may select from, by schema, as PostgreSQL answers at this moment:",
        "",
        *table(["role", *schemas, "besides"], [[f"`{role}`", *(seen.get((role, s), "") for s in schemas), _besides(role, members)] for role in ROLES]),
        "## What each sees when it asks",
        "",
        *table(["dataset", "read", *_READERS[:3]], _tried(work, there)),
    ]  # fmt: skip
    if masked:
        tenants = {c.tenant for c in masked if c.tenant}
        lines += [
            f"A login that is bound to no tenant finds nobody's rows in datasets with tenants ({', '.join(sorted(tenants))}): "
            "`tidegate psql --role analyst --tenant UA` is bound to one.",
            "",
            "## What a classified value looks like",
            "",
            *table(
                ["classification", "columns", "shown in `masked`"],
                [
                    [word, ", ".join(f"{c.dataset}.{col.name}" for c in masked for col in c.columns if col.classification == word), told]
                    for word, told in CLASSIFICATIONS.items() if word != "public"
                ],
            ),
        ]  # fmt: skip
    return "\n".join([
        *lines,
        "## Datasets",
        "",
        *table(
            ["dataset", "a row is", "key", "cut by", "owner", "at the latest after", "columns"],
            [
                [f"`{c.schema}.{c.table}`", c.grain, ", ".join(c.key), partition_in_words(c.partitioning), c.owner, in_words(c.freshness),
                 file(work, f"docs/reference/{c.dataset}.md", "all") if (work.settings.project / f"docs/reference/{c.dataset}.md").exists() else beside(work, c.path)]
                for c in contracts
            ],
        ),
        "## Marts",
        "",
        *table(["mart", "key", "what it holds"], [[f"`{m}`", ", ".join(m.key), m.told] for m in marts]),
        f"Columns: {file(work, 'docs/reference/marts.md')}. Queries to begin with: [the cookbook](QUERY_COOKBOOK.md).",
        "",
        *figures(work, [
            Asked("rows of other tenants that any login saw", "rls_verification", "foreign_rows_seen"),
            Asked("attempts to see some", "rls_verification", "attempts"),
        ]),
    ])  # fmt: skip


def query_cookbook(work: Work) -> str:
    """Return the important queries and some for each mart, each run here as the role with the least rights, with its time."""
    classified = {col.name for c in load_all(work.settings) for col in c.columns if is_classified(col)}
    important, known = _important(work), _kept(work)
    with connect(work.settings) as connection:
        marts = [m.name for m in catalog.marts(connection, work.settings.project)]
    without = [mart for mart in marts if not any(recipe.name.startswith(mart) for recipe in known)]
    recipes = [*known, *(_newest(mart) for mart in without)]
    answers = _run(work, [*important, *recipes])
    slowest = max(answers, key=lambda name: answers[name].milliseconds)
    lines = [
        *head(work, "Queries, run and timed"),
        f"{len(answers)} queries, each run {_TIMES} times while this was written, read-only; the slowest, `{slowest}`, took "
        f"{answers[slowest].milliseconds:,.1f} ms. Times are from sending it to holding all rows; {_ROWS} rows at most are shown, and no "
        "value of a classified column.",
        "",
        "## Important queries",
        "",
    ]
    for recipe in important:
        lines += _shown(work, recipe, answers[recipe.name], classified)
    for mart in marts:
        lines += [f"## {mart}", ""]
        for recipe in (one for one in recipes if one.name.startswith(mart)):
            lines += _shown(work, recipe, answers[recipe.name], classified)
    return "\n".join(lines)


def _doors(work: Work) -> list[list[str]]:
    settings = work.settings
    urls = {name: getattr(settings, f"{name}_url") for name in ("warehouse", "pool", "replica")}
    told = {name: f"`{without_password(url.get_secret_value())}`" if url else "none" for name, url in urls.items()}
    return [
        ["look around", "`tidegate psql --role readonly`", told["warehouse"]],
        ["connect a program", "`eval \"$(tidegate env)\"`, then TIDEGATE_POOL_URL", told["pool"]],
        ["read from a copy", "`tidegate psql --replica`", told["replica"]],
        ["try something that destroys", "`tidegate rehearsal up`", "made when asked for, masked"],
    ]  # fmt: skip


def _besides(role: str, members: Sequence[dict[str, Any]]) -> str:
    granted = next((row["granted"] for row in members if row["role"] == role), None)
    return f"member of {granted}" if granted else ""


def _tried(work: Work, contracts: Sequence[Contract]) -> list[list[str]]:
    """Count, as each reader, what it finds in each dataset, and in its masked view."""
    places = [
        (c, place)
        for c in contracts
        for place in (f"{c.schema}.{c.table}", *([f"masked.{c.table}"] if is_watched(c) else []))
    ]
    found: dict[tuple[str, str], str] = {}
    for role in _READERS[:3]:
        with _session(work, role) as (session, who):
            for _, place in places:
                found[role, place] = (
                    _count(session, place) if who == role else f"not tried: the server knows no password of {role} here"
                )
    return [[c.dataset, f"`{place}`", *(found[role, place] for role in _READERS[:3])] for c, place in places]


def _count(session: Connection, place: str) -> str:
    try:
        rows = session.execute(
            sql.SQL("SELECT count(*) AS n FROM {}").format(sql.Identifier(*place.split(".")))
        ).fetchall()
        return f"{rows[0]['n']:,} rows"
    except psycopg.errors.InsufficientPrivilege:
        return "refused"


def _important(work: Work) -> list[Recipe]:
    """Return the queries of `queries/`, each asked something that there are rows of, where a few draws find that."""
    found = []
    with connect(work.settings, autocommit=True) as connection:
        for query in queries.read(work.settings.project):
            drawn = queries.draw(connection, query, 10)
            rows = (one for one in drawn if connection.execute(query.statement, one).fetchone())
            asked = next(rows, drawn[0])
            found.append(Recipe(query.name, query.purpose, f"queries/{query.path.name}", query.statement, asked))
    return found


def _kept(work: Work) -> list[Recipe]:
    """Return the queries of `queries/cookbook`, called after the mart that they are about; the first line says what for."""
    found = []
    for path in sorted((work.settings.project / "queries" / "cookbook").glob("*.sql")):
        first, _, statement = path.read_text(encoding="utf-8").partition("\n")
        found.append(Recipe(path.stem, _purpose(path, first), f"queries/cookbook/{path.name}", statement.strip(), {}))
    return found


def _purpose(path: Path, line: str) -> str:
    if not line.startswith("-- "):
        raise TerminalError(f"{path}: found {line!r}, expected its purpose as a comment in the first line")
    return line.removeprefix("-- ").strip()


def _newest(mart: str) -> Recipe:
    return Recipe(
        f"{mart}_rows",
        f"Some rows of {mart}, of which the cookbook has no query.",
        "",
        f"select * from marts.{mart} limit {_ROWS}",
        {},
    )


def _run(work: Work, recipes: Sequence[Recipe]) -> dict[str, Answer]:
    by_role: dict[str, list[Recipe]] = {}
    with connect(work.settings) as connection:
        for recipe in recipes:
            by_role.setdefault(_least(connection, recipe.statement), []).append(recipe)
    answers = {}
    for role, mine in by_role.items():
        with _session(work, role) as (session, who):
            for recipe in mine:
                answers[recipe.name] = _answer(session, who, recipe)
    return answers


def _answer(session: Connection, who: str, recipe: Recipe) -> Answer:
    took = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        try:
            rows = session.execute(recipe.statement, recipe.parameters or None).fetchall()
        except psycopg.Error as error:
            raise TerminalError(
                f"{recipe.path or recipe.name}, as {who}: {first_line(error)}; a cookbook prints what runs"
            ) from error
        took.append(1000 * (time.perf_counter() - began))
    return Answer(who, statistics.median(took), len(rows), rows[:_ROWS])


def _least(connection: Connection, statement: str) -> str:
    """Return the role with the fewest rights that may read every table of a query."""
    tables = sorted({found.lower() for found in _READ.findall(statement)})
    for role in _READERS:
        row = connection.execute(
            "SELECT bool_and(has_schema_privilege(%(role)s, split_part(t, '.', 1), 'USAGE') AND has_table_privilege(%(role)s, t, 'SELECT')) AS may "
            "FROM unnest(%(tables)s::text[]) AS t",
            {"role": role, "tables": tables},
        ).fetchone()
        if row and row["may"]:
            return role
    return _READERS[-1]


@contextmanager
def _session(work: Work, role: str) -> Iterator[tuple[Connection, str]]:
    """Connect as a role, read-only; where the server lets it in by no password of ours, as the warehouse's own login."""
    login = credentials(work.settings, role)
    parts = {
        key: text
        for key, text in conninfo_to_dict(warehouse_url(work.settings)).items()
        if key not in ("user", "password", "options")
    }
    given = {"password": login["PGPASSWORD"]} if login["PGPASSWORD"] else {}
    options = {"options": _PATIENCE}
    try:
        session = psycopg.connect(
            make_conninfo("", **parts, **options, user=login["PGUSER"], **given), autocommit=True, row_factory=dict_row
        )
        who = role
    except psycopg.OperationalError:
        session = psycopg.connect(
            make_conninfo(warehouse_url(work.settings), **options), autocommit=True, row_factory=dict_row
        )
        who = session.info.user
    with session:
        yield session, who


def _shown(work: Work, recipe: Recipe, answer: Answer, classified: set[str]) -> list[str]:
    where = f" · {file(work, recipe.path)}" if recipe.path else ""
    columns = [name for name in (answer.first[0] if answer.first else {}) if name not in classified]
    left = len(columns) - _COLUMNS
    asked = ", ".join(f"{name} = {text}" for name, text in recipe.parameters.items() if name not in classified)
    return [
        f"### {recipe.name}",
        "",
        f"{recipe.purpose} As `{answer.role}`: {answer.rows:,} rows in {answer.milliseconds:,.1f} ms{where}",
        "",
        *code(recipe.statement, "sql"),
        *([f"Asked: {asked}", ""] if asked else []),
        *([f"Of its columns, {left} more are not shown.", ""] if left > 0 else []),
        *(
            table(columns[:_COLUMNS], [[_short(row[name]) for name in columns[:_COLUMNS]] for row in answer.first])
            if columns
            else []
        ),
    ]


def _short(value: Any) -> str:
    text = "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"


_RIGHTS = """
SELECT r AS role, n.nspname AS schema, count(*) AS relations,
    count(*) FILTER (WHERE has_schema_privilege(r, n.oid, 'USAGE') AND has_table_privilege(r, c.oid, 'SELECT')) AS readable
FROM unnest(%s::text[]) AS r CROSS JOIN pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname IN ('raw', 'core', 'marts', 'masked', 'ops', 'quarantine') AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
GROUP BY 1, 2
"""
_MEMBERS = """
SELECT m.rolname AS role, string_agg(g.rolname, ', ' ORDER BY g.rolname) AS granted
FROM pg_auth_members AS a JOIN pg_roles AS m ON m.oid = a.member JOIN pg_roles AS g ON g.oid = a.roleid
WHERE m.rolname = ANY (%s) GROUP BY 1
"""
