"""What a database looks like: its schema and its rows as values to compare, without what was set aside."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

_OURS = "nspname !~ '^(pg_|information_schema|aside_)'"

#: Not compared: Alembic's own note of where it stands.
_NOTES = {"ops.migration", "ops.schema_change"}


def schema_of(connection: psycopg.Connection[Any]) -> dict[str, list[Any]]:
    """Return columns, constraints, indexes, functions, comments, by kind; sorted, and without object numbers."""
    queries = {
        "schemas": f"SELECT nspname FROM pg_namespace WHERE {_OURS}",
        "columns": "SELECT c.oid::regclass::text, relkind, attname, format_type(atttypid, atttypmod), attnotnull, "
        "attidentity, pg_get_expr(adbin, adrelid) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace "
        "JOIN pg_attribute ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped "
        f"LEFT JOIN pg_attrdef ON adrelid = c.oid AND adnum = attnum WHERE {_OURS} AND relkind IN ('r', 'p', 'v')",
        "constraints": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(t.oid) FROM pg_constraint AS t "
        f"JOIN pg_namespace AS n ON n.oid = connamespace WHERE {_OURS}",
        "indexes": f"SELECT indexdef FROM pg_indexes JOIN pg_namespace ON nspname = schemaname WHERE {_OURS}",
        "functions": "SELECT pg_get_functiondef(p.oid) FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = pronamespace "
        f"WHERE {_OURS} AND prokind = 'f'",
        "triggers": "SELECT pg_get_triggerdef(t.oid) FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = tgrelid "
        f"JOIN pg_namespace AS n ON n.oid = relnamespace WHERE {_OURS} AND NOT tgisinternal",
        "policies": "SELECT schemaname, tablename, policyname, roles::text, cmd, qual, with_check FROM pg_policies",
        "comments": "SELECT c.oid::regclass::text, attname, description FROM pg_description JOIN pg_class AS c ON "
        "c.oid = objoid JOIN pg_namespace AS n ON n.oid = relnamespace "
        f"LEFT JOIN pg_attribute ON attrelid = objoid AND attnum = objsubid AND attnum > 0 WHERE {_OURS}",
        # The owner's own rights are written down once anybody else has had any, and say nothing new.
        "grants on columns": "SELECT c.oid::regclass::text, attname, pg_get_userbyid(g.grantee), privilege_type FROM pg_class AS c "
        "JOIN pg_namespace AS n ON n.oid = relnamespace JOIN pg_attribute ON attrelid = c.oid AND attacl IS NOT NULL "
        f"CROSS JOIN aclexplode(attacl) AS g WHERE {_OURS} AND g.grantee <> relowner",
        "grants on tables": "SELECT c.oid::regclass::text, pg_get_userbyid(g.grantee), privilege_type FROM pg_class AS c "
        f"JOIN pg_namespace AS n ON n.oid = relnamespace CROSS JOIN aclexplode(relacl) AS g WHERE {_OURS} "
        "AND g.grantee <> relowner",
        "grants on schemas": "SELECT nspname, pg_get_userbyid(g.grantee), privilege_type FROM pg_namespace "
        f"CROSS JOIN aclexplode(nspacl) AS g WHERE {_OURS} AND g.grantee <> nspowner",
        "default grants": "SELECT nspname, defaclobjtype, defaclacl::text FROM pg_default_acl "
        "LEFT JOIN pg_namespace AS n ON n.oid = defaclnamespace",
    }
    return {kind: sorted(map(str, connection.execute(query).fetchall())) for kind, query in queries.items()}  # type: ignore[call-overload]


def rows_of(connection: psycopg.Connection[Any]) -> dict[str, list[str]]:
    """Return the rows of every table that lies where programs look for it."""
    found = connection.execute(
        "SELECT nspname, relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace "
        f"WHERE {_OURS} AND relkind = 'r' ORDER BY 1, 2"
    ).fetchall()
    tables = [(schema, name) for schema, name in found if f"{schema}.{name}" not in _NOTES]
    return {
        f"{schema}.{name}": sorted(
            str(row)
            for row in connection.execute(
                sql.SQL("SELECT to_jsonb(t) FROM {} AS t").format(sql.Identifier(schema, name))
            ).fetchall()
        )
        for schema, name in tables
    }
