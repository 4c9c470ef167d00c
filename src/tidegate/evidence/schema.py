"""What the warehouse is, as its own catalog tells: version, extensions, columns, indexes, configuration, and its DDL run."""

from __future__ import annotations

from collections.abc import Iterator

from tidegate.contracts import load_all
from tidegate.evidence import index_strategy, indexes, promised_indexes, queries
from tidegate.evidence.probe import Finding, Ground
from tidegate.migrate import steps
from tidegate.stores.postgres import connect


def version(ground: Ground) -> Iterator[Finding]:
    """Ask the server what it is."""
    with connect(ground.settings, autocommit=True) as connection:
        row = connection.execute(
            "SELECT version() AS told, current_setting('server_version_num')::int AS number"
        ).fetchone() or {}  # fmt: skip
    yield Finding("pg/version.log", row["told"], {"server_version_num": row["number"]}, "SELECT version()")


def extensions(ground: Ground) -> Iterator[Finding]:
    """List the extensions that the warehouse has, and those that it could have."""
    query = "SELECT name, default_version, installed_version FROM pg_available_extensions ORDER BY name"
    with connect(ground.settings, autocommit=True) as connection:
        rows = connection.execute(query).fetchall()
    installed = {row["name"]: row["installed_version"] for row in rows if row["installed_version"]}
    lines = [f"{row['name']:28} {row['default_version']:10} {row['installed_version'] or '-'}" for row in rows]
    yield Finding("pg/extensions.log", "\n".join(lines), {"installed": installed, "available": len(rows)}, query)


def schema_apply(ground: Ground) -> Iterator[Finding]:
    """Apply `migrations/schema.sql` to an empty database, and list the columns that are there afterwards."""
    file = ground.settings.project / "migrations" / "schema.sql"
    columns = (
        "SELECT table_schema, table_name, column_name, data_type, is_nullable FROM information_schema.columns "
        "WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2, ordinal_position"
    )
    with ground.rehearsal.scratch("schema_apply") as dsn:
        applied = ground.psql(dsn, "--single-transaction", f"--file={file}")
        seen = ground.psql(dsn, "--no-align", "--tuples-only", f"--command={columns}")
    command = applied.command.replace(str(file), "migrations/schema.sql")
    statements = len(applied.said.splitlines())
    found = seen.said.strip().splitlines()
    yield Finding("pg/schema_apply.log", applied.said, {"statements": statements}, command, applied.exit_status)
    figures = {"columns": len(found), "tables": len({tuple(line.split("|")[:2]) for line in found})}
    yield Finding("pg/schema_verify.log", seen.said, figures, seen.command, seen.exit_status)


def index_usage(ground: Ground) -> Iterator[Finding]:
    """List every index with how often it was used and why it is there, those that are missing, and how many blocks were in memory."""
    with connect(ground.settings, autocommit=True) as connection:
        known = indexes.of_warehouse(connection)
        slow_keys = indexes.foreign_keys_without(connection)
        contracts = load_all(ground.settings)
        missing = promised_indexes.missing(connection, steps.read(ground.settings.project), contracts)
        # Of nothing read there is no ratio, and no figure.
        row = connection.execute(
            "SELECT (sum(idx_blks_hit) / nullif(sum(idx_blks_hit + idx_blks_read), 0))::float8 AS ratio FROM pg_statio_user_indexes"
        ).fetchone() or {}  # fmt: skip
    known.sort(key=lambda index: -index.scans)
    why = index_strategy.reasons(known, contracts, queries.read(ground.settings.project))
    lines = [f"{i.scans:>9} {i.size_bytes:>11} {i.table:34} {i.name:44} {why[i.name]}" for i in known]
    lines += [f"foreign key without an index: {told}" for told in slow_keys]
    lines += [f"missing: {told}" for told in missing]
    figures = {
        "indexes": len(known), "without_reason": sum(not reason for reason in why.values()), "unused": len(indexes.unused(known)),
        "foreign_keys_without_index": len(slow_keys), "missing": len(missing),
        "index_hit_ratio": row["ratio"] and round(row["ratio"], 4),
    }  # fmt: skip
    lines.append(f"of all blocks of indexes that were asked for, in memory: {figures['index_hit_ratio']}")
    yield Finding(
        "pg/index_usage.log", "\n".join(lines), figures, "SELECT … FROM pg_stat_all_indexes", int(bool(missing))
    )


def config_diff(ground: Ground) -> Iterator[Finding]:
    """List what is set otherwise than PostgreSQL's own default, with both values."""
    query = (
        "SELECT name, boot_val, setting, coalesce(unit, '') AS unit, source FROM pg_settings "
        "WHERE setting IS DISTINCT FROM boot_val AND source NOT IN ('default', 'override', 'client', 'session', 'database', 'user') "
        "AND name !~ '(password|_file|_directory|_command|conninfo)$' ORDER BY name"
    )
    with connect(ground.settings, autocommit=True) as connection:
        rows = connection.execute(query).fetchall()
    lines = [f"< {r['name']} = {r['boot_val']} {r['unit']}\n> {r['name']} = {r['setting']} {r['unit']}" for r in rows]
    yield Finding("pg/config_diff.log", "\n".join(lines), {"changed": len(rows)}, query)
