"""What can be judged without a row: how the SQL is written, what it promises, how things are called, what it gives away."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tidegate.evidence.probe import CannotRunError, Finding, Ground, Ran, run
from tidegate.migrate import steps
from tidegate.observe import catalog
from tidegate.publish.marts import CURRENT
from tidegate.stores.postgres import Connection, connect

#: What sqlfluff looks for in DDL: that it parses, and that it is not misread. How lines are laid out, no reader of a
#: schema is misled by; a migration that has landed is not changed for it.
_RULES = "ambiguous,convention,references,structure"
#: Names that are also words of SQL somewhere (`state`): PostgreSQL reserves none of them.
_NOT = "references.keywords"
_SCHEMAS = ("ops", "quarantine", "raw", "core", "staging", "marts_current")


def sqlfluff(ground: Ground) -> Iterator[Finding]:
    """Lint every statement of every migration, up and down, and of the roles."""
    with tempfile.TemporaryDirectory() as folder:
        files = write_ddl(ground.settings.project, Path(folder))
        ran = run(
            [Path(sys.executable).parent / "sqlfluff", "lint", "--dialect", "postgres", "--templater", "raw", "--rules",
             _RULES, "--exclude-rules", _NOT, "--disable-progress-bar", "--ignore-local-config", "--format", "json", "."],
            folder=Path(folder),
        )  # fmt: skip
    found = json.loads(ran.said[ran.said.index("[") :])
    told = [
        f"{file['filepath']}:{v['start_line_no']}: {v['code']} {v['description']}"
        for file in found
        for v in file["violations"]
    ]
    unparsed = sum(": PRS " in line for line in told)
    figures = {"files": len(files), "violations": len(told), "unparsed": unparsed}
    text = "\n".join(told) or f"{len(files)} files, no violation"
    yield Finding("tests/static/sqlfluff.log", text, figures, ran.command, ran.exit_status)


def write_ddl(project: Path, folder: Path) -> list[Path]:
    """Write every migration's way up and down, and the roles, as files to `folder`."""
    texts = {f"{step.revision}_{way}.sql": getattr(step, way) for step in steps.read(project) for way in ("up", "down")}
    texts["roles.sql"] = (project / "migrations" / "roles.sql").read_text(encoding="utf-8")
    for name, text in texts.items():
        (folder / name).write_text(text.strip() + "\n", encoding="utf-8")
    return [folder / name for name in texts]


def ddl_syntax(ground: Ground) -> Iterator[Finding]:
    """Let PostgreSQL itself read every file of DDL, in order, in a database that is thrown away."""
    project, told, failed = ground.settings.project, list[str](), 0
    with ground.rehearsal.scratch("ddl_syntax") as dsn, tempfile.TemporaryDirectory() as folder:
        known = steps.read(project)
        texts = [(f"{step.revision} up", step.up) for step in known]
        texts += [(f"{step.revision} down", step.down) for step in reversed(known)]
        # It succeeds where the ways down have left nothing there.
        texts.append(("the end", "DROP TABLE ops.migration; DROP SCHEMA ops"))
        texts.append(("schema.sql", (project / "migrations" / "schema.sql").read_text(encoding="utf-8")))
        # Alembic makes it before the first migration.
        notes = "CREATE TABLE ops.migration (version_num character varying(32) PRIMARY KEY)"
        ground.psql(dsn, "--quiet", "--command=CREATE SCHEMA ops", f"--command={notes}")
        for name, text in texts:
            file = Path(folder) / "statements.sql"
            file.write_text(text, encoding="utf-8")
            ran = ground.psql(dsn, "--single-transaction", "--quiet", f"--file={file}")
            failed += ran.exit_status != 0
            told.append(f"{'FAIL' if ran.exit_status else 'ok'}  {name}{_indented(ran.said)}")
    figures = {"files": len(texts), "failed": failed}
    yield Finding("tests/static/ddl_syntax.log", "\n".join(told), figures, "psql --file", int(failed > 0))


def constraint_audit(ground: Ground) -> Iterator[Finding]:
    """Count what the catalog guarantees, and name the tables that have no key and the keys that were never checked."""
    with connect(ground.settings, autocommit=True) as connection:
        by_kind = _constraints(connection)
        # A mart is swapped in whole: its build checks its key, and nobody writes to it afterwards.
        checked = {f"{CURRENT}.{mart}" for mart in catalog.grains(ground.settings.project)}
        keyless = _keyless(connection)
        by_build = sorted(checked.intersection(keyless))
        keyless = [name for name in keyless if name not in checked]
        unchecked = [kind for kind, facts in by_kind.items() if facts["unvalidated"]]
        required = connection.execute(
            "SELECT count(*) AS n FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = attrelid JOIN pg_namespace AS n "
            "ON n.oid = relnamespace WHERE nspname = ANY (%s) AND relkind IN ('r', 'p') AND NOT relispartition "
            "AND attnum > 0 AND attnotnull AND NOT attisdropped",
            [list(_SCHEMAS)],
        ).fetchone() or {}  # fmt: skip
    names = {"p": "primary_keys", "f": "foreign_keys", "u": "unique", "c": "checks"}
    figures = {name: by_kind.get(kind, {}).get("count", 0) for kind, name in names.items()}
    figures |= {
        "not_null": required["n"], "keys_checked_by_builds": len(by_build), "without_key": len(keyless),
        "unvalidated": len(unchecked),
    }  # fmt: skip
    lines = [f"{name}: {count}" for name, count in figures.items()]
    lines += [f"no primary key: {name}" for name in keyless]
    lines += [f"key checked by each build (unique_grain): {name}" for name in by_build]
    yield Finding("tests/static/constraint_audit.log", "\n".join(lines), figures, "SELECT … FROM pg_constraint")


def naming_check(ground: Ground) -> Iterator[Finding]:
    """Hold the names of our own tables and columns to the conventions: snake_case, `_at` for moments, nothing quoted."""
    with connect(ground.settings, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT nspname AS schema, relname AS table, attname AS column, format_type(atttypid, NULL) AS type "
            "FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = attrelid JOIN pg_namespace AS n ON n.oid = relnamespace "
            "WHERE nspname = ANY (%s) AND relkind IN ('r', 'p', 'v') AND NOT relispartition AND attnum > 0 "
            "AND NOT attisdropped ORDER BY 1, 2, attnum",
            [list(_SCHEMAS)],
        ).fetchall()
    told = []
    for row in rows:
        name = f"{row['schema']}.{row['table']}.{row['column']}"
        # Staged and archived batches carry their id; a source names its columns as it likes.
        if not re.fullmatch(r"[a-z_][a-z0-9_]*", row["column"]) or not re.fullmatch(r"[a-z][a-z0-9_]*", row["table"]):
            told.append(f"{name}: not snake_case")
        ours = row["schema"] in ("ops", "quarantine")
        if ours and row["type"].startswith("timestamp") and not row["column"].endswith("_at"):
            told.append(f"{name}: a moment, and not called …_at")
        if row["type"] == "timestamp without time zone":
            told.append(f"{name}: a moment without its time zone")
    figures = {"columns": len(rows), "violations": len(told)}
    yield Finding(
        "tests/static/naming_check.log", "\n".join(told) or "every name follows the conventions", figures,
        "SELECT … FROM pg_attribute", int(bool(told)),
    )  # fmt: skip


def gitleaks_staged(ground: Ground) -> Iterator[Finding]:
    """Look for secrets in what is staged to be committed."""
    yield _gitleaks(ground, "tests/static/gitleaks.log", "--staged")


def gitleaks_history(ground: Ground) -> Iterator[Finding]:
    """Look for secrets in every commit that there ever was."""
    yield _gitleaks(ground, "tests/security/gitleaks_full.log")


def leaks(
    folder: Path, *options: str, environment: Mapping[str, str] | None = None
) -> tuple[Ran, list[dict[str, Any]]]:
    """Let gitleaks look at a repository, at all of it or as `options` say; return what it said, and each secret's place.

    Raises:
        CannotRunError: gitleaks is not installed, or could not look.
    """
    with tempfile.TemporaryDirectory() as apart:
        report = Path(apart) / "report.json"
        ran = run(
            ["gitleaks", "git", "--redact", "--no-banner", "--no-color", "--report-format=json",
             f"--report-path={report}", *options, "."],
            environment, folder=folder,
        )  # fmt: skip
        found = json.loads(report.read_text()) if report.exists() else []
    # Where git fails, gitleaks says so, finds nothing, and ends well.
    if not found and (ran.exit_status or re.search(r"^\S+ ERR ", ran.said, re.MULTILINE)):
        raise CannotRunError(f"gitleaks could not look at {folder.name}, so nobody knows: {ran.said[-400:]}")
    return replace(ran, command=ran.command.replace(str(report), "REPORT")), found or []


def _gitleaks(ground: Ground, file: str, *options: str) -> Finding:
    ran, found = leaks(ground.settings.project, *options)
    lines = [
        ran.said,
        *(f"{leak['RuleID']}: {leak['File']}:{leak['StartLine']} ({leak['Commit'][:8]})" for leak in found),
    ]
    return Finding(file, "\n".join(lines), {"leaks": len(found)}, ran.command, ran.exit_status)


def _constraints(connection: Connection) -> dict[str, dict[str, int]]:
    rows = connection.execute(
        "SELECT contype, count(*) AS count, count(*) FILTER (WHERE NOT convalidated) AS unvalidated "
        "FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = conrelid JOIN pg_namespace AS n ON n.oid = relnamespace "
        "WHERE nspname = ANY (%s) AND NOT relispartition GROUP BY contype",
        [list(_SCHEMAS)],
    ).fetchall()
    return {row["contype"]: row for row in rows}


def _keyless(connection: Connection) -> list[str]:
    rows = connection.execute(
        "SELECT c.oid::regclass::text AS name FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace "
        "WHERE nspname = ANY (%s) AND relkind IN ('r', 'p') AND NOT relispartition AND NOT EXISTS "
        "(SELECT FROM pg_index WHERE indrelid = c.oid AND indisunique) ORDER BY 1",
        [[schema for schema in _SCHEMAS if schema != "staging"]],
    ).fetchall()
    return [row["name"] for row in rows]


def _indented(said: str) -> str:
    return "".join(f"\n      {line}" for line in said.strip().splitlines()) if said.strip() else ""
