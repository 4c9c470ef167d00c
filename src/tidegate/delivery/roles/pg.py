"""What the PostgreSQL engineer writes: tables, indexes, functions, extensions and settings, from the running server's catalog."""

from __future__ import annotations

from itertools import groupby

from tidegate.contracts import load_all
from tidegate.delivery.cited import Asked, cite, figures, file, holding, shown, value
from tidegate.delivery.markdown import code, head, link, table
from tidegate.delivery.work import Work
from tidegate.evidence import index_strategy, queries
from tidegate.evidence import indexes as catalog
from tidegate.stack import postgres_databases, postgres_tuning
from tidegate.stores.postgres import connect

_OURS = "('raw', 'core', 'marts_current', 'masked', 'ops', 'quarantine')"


def schema_ddl(work: Work) -> str:
    """Return what each schema holds and which rules PostgreSQL keeps in it, as the catalog says them."""
    with connect(work.settings) as connection:
        tables = connection.execute(_TABLES).fetchall()
        rules = connection.execute(_RULES).fetchall()
        policies = connection.execute(
            "SELECT schemaname || '.' || tablename AS name, policyname, roles::text[] AS roles, qual FROM pg_policies "
            f"WHERE schemaname IN {_OURS} AND tablename NOT LIKE '%-%' AND NOT EXISTS (SELECT FROM pg_class AS c JOIN pg_namespace AS n "
            "ON n.oid = relnamespace WHERE relname = tablename AND nspname = schemaname AND relispartition) ORDER BY 1, 2"
        ).fetchall()
    lines = [
        *head(work, "The schema, as PostgreSQL has it"),
        f"{len(tables)} relations with {sum(one['columns'] for one in tables)} columns stand here now. The ledger's statements are in "
        f"{file(work, 'migrations/schema.sql')}, held equal to all migrations by a test; datasets get their tables from "
        f"{file(work, 'schemas')}, marts from {file(work, 'models/marts')}.",
        "",
        *figures(work, [
            Asked("statements of schema.sql that an empty database took", "schema_apply", "statements"),
            Asked("tables afterwards", "schema_apply", "tables"),
            Asked("files of DDL that PostgreSQL refused", "ddl_syntax", "failed"),
            Asked("tables without a key", "constraint_audit", "without_key"),
            Asked("constraints that were never checked", "constraint_audit", "unvalidated"),
            Asked("names against the conventions", "naming_check", "violations"),
        ]),
    ]  # fmt: skip
    for schema, members in groupby(tables, key=lambda one: one["schema"]):
        lines += [
            f"## {schema}",
            "",
            *table(
                ["relation", "kind", "columns", "keys", "foreign keys", "checks", "row security"],
                [
                    [f"`{one['name']}`", one["kind"], one["columns"], one["keys"], one["pointers"], one["checks"], one["guarded"]]
                    for one in members
                ],
            ),
        ]  # fmt: skip
    return "\n".join([
        *lines,
        "## What PostgreSQL refuses",
        "",
        *table(["table", "constraint", "as PostgreSQL says it"], [[f"`{r['name']}`", r["rule"], f"`{r['told']}`"] for r in rules]),
        "## Whose rows a session sees",
        "",
        *table(
            ["table", "policy", "for", "rows"],
            [[f"`{p['name']}`", p["policyname"], ", ".join(p["roles"]), f"`{p['qual']}`"] for p in policies],
        ),
    ])  # fmt: skip


def indexes(work: Work) -> str:
    """Return every index: why it is there, how often it was used, what it weighs, which important query it serves."""
    with connect(work.settings) as connection:
        known = catalog.of_warehouse(connection)
        missing = catalog.foreign_keys_without(connection)
        whole = catalog.read_whole(connection)
    asked = queries.read(work.settings.project)
    contracts = load_all(work.settings)
    told, why = index_strategy.told(known, contracts), index_strategy.reasons(known, contracts, asked)
    used = max(known, key=lambda one: one.scans)
    idle = catalog.unused(known)
    plans = {
        one.path.rpartition("explain_query_")[2].removesuffix(".json"): one
        for one in work.taken_by("explain")
        if one.path.startswith("pg/")
    }
    return "\n".join([
        *head(work, "Indexes: why, and how often"),
        f"{len(known)} indexes weigh {sum(one.size_bytes for one in known) / 2**20:.1f} MiB. The busiest is `{used.name}` "
        f"({used.scans:,} scans); {len(idle)} that guarantee nothing have not been asked yet"
        f"{': ' + ', '.join(f'`{one.name}`' for one in idle[:8]) if idle else ''}.",
        "",
        *figures(work, [
            Asked("indexes without a reason", "index_usage", "without_reason"),
            Asked("indexes that nobody used", "index_usage", "unused"),
            Asked("foreign keys that no index begins with", "index_usage", "foreign_keys_without_index"),
        ]),
        "## Each of them",
        "",
        *table(
            ["table", "index", "scans", "KiB", "why"],
            [[f"`{i.table}`", f"`{i.name}`", i.scans, f"{i.size_bytes / 1024:,.0f}", why[i.name]] for i in known],
        ),
        "## Important queries and what serves them",
        "",
        *table(
            ["query", "served by", "P95, ms", "target", "plan"],
            [
                [
                    file(work, f"queries/{q.name}.sql", q.name),
                    "; ".join(f"`{i.table} {i.holds}`" for i in index_strategy.serving(told, q)) or "its table is small, and read whole",
                    shown(plans[q.name].figures["p95_ms"]) if q.name in plans else "not measured", f"{q.target_ms:g}",
                    link(plans[q.name]) if q.name in plans else "",
                ]
                for q in asked
            ],
        ),
        "## Large tables that were read whole",
        "",
        *table(
            ["table", "times", "rows a time", "times by an index"],
            [[f"`{r['table']}`", r["times"], f"{r['rows_a_time']:,}", r["by_index"]] for r in whole],
        ),
        *[f"- a foreign key without an index: `{one}`" for one in missing],
    ])  # fmt: skip


def stored_procedures(work: Work) -> str:
    """Return the functions of the ledger: what they take, with whose rights they run, who may call them, which triggers do."""
    with connect(work.settings) as connection:
        found = connection.execute(_FUNCTIONS).fetchall()
        triggers = connection.execute(_TRIGGERS).fetchall()
    definers = [one["name"] for one in found if one["definer"]]
    return "\n".join([
        *head(work, "Functions inside the database"),
        f"{len(found)} functions, all in `ops`; {len(definers)} of them run with their owner's rights "
        f"({', '.join(f'`{name}`' for name in definers)}), each with a `search_path` of its own, so that nobody puts another function "
        "in the way of what they call.",
        "",
        *table(
            ["function", "returns", "language", "runs as", "search_path", "what it is for"],
            [
                [f"`{f['name']}({f['arguments']})`", f["returns"], f["language"], "its owner" if f["definer"] else "its caller",
                 f["path"], f["told"]]
                for f in found
            ],
        ),
        "## Who may call them",
        "",
        *table(["function", "roles beside the owner"], [[f"`{f['name']}`", f["callers"]] for f in found]),
        "## Triggers that call them",
        "",
        *table(
            ["function", "on", "when", "triggers, partitions and all"],
            [[f"`{t['function']}`", t["tables"], t["events"], t["count"]] for t in triggers],
        ),
        *figures(work, [
            Asked("pgTAP tests, functions and triggers among them", "pgtap", "tests"),
            Asked("of these, failed", "pgtap", "failed"),
        ]),
    ])  # fmt: skip


def extensions(work: Work) -> str:
    """Return which extensions the warehouse has and for what, and which it does without on purpose."""
    with connect(work.settings) as connection:
        rows = connection.execute(
            "SELECT name, default_version, installed_version, comment FROM pg_available_extensions ORDER BY name"
        ).fetchall()
        # Only some logins are shown this one.
        loaded = connection.execute(
            "SELECT setting FROM pg_settings WHERE name = 'shared_preload_libraries'"
        ).fetchone()
    there = {row["name"]: row for row in rows}
    installed = [row for row in rows if row["installed_version"]]
    libraries = {name.strip() for name in (loaded or {"setting": ""})["setting"].split(",") if name.strip()}
    return "\n".join([
        *head(work, "Extensions that the warehouse has, and does without"),
        f"{len(installed)} of {len(rows)} extensions that this server could have are created; before the first session it loads "
        f"{', '.join(sorted(libraries)) or ('no library' if loaded else 'what this login is not shown')}. The server says: {cite(work, 'version', 'server_version_num')}.",
        "",
        *table(["extension", "version", "what for"], [[f"`{r['name']}`", r["installed_version"], _WANTED.get(r["name"], r["comment"])] for r in installed]),
        "## Wanted where they can be had",
        "",
        *table(
            ["module", "here", "what for"],
            [
                [f"`{name}`", "loaded" if name in libraries else "available" if name in there else "not on this machine", told]
                for name, told in _WANTED.items() if name != "plpgsql"
            ],
        ),
        "## Done without",
        "",
        *table(
            ["extension", "available", "why not"],
            [[f"`{name}`", "yes" if name in there else "no", told] for name, told in _WITHOUT.items()],
        ),
        *figures(work, [Asked("extensions that are available", "extensions", "available")]),
    ])  # fmt: skip


def pg_config_tuning(work: Work) -> str:
    """Return each setting that is not PostgreSQL's own with its reason, and what pgbench says of the whole."""
    with connect(work.settings) as connection:
        rows = connection.execute(
            "SELECT name, boot_val, setting, coalesce(unit, '') AS unit FROM pg_settings WHERE setting IS DISTINCT FROM boot_val "
            "AND source NOT IN ('default', 'override', 'client', 'session', 'database', 'user') "
            "AND name !~ '(password|_file|_directory|_command|conninfo)$' ORDER BY name"
        ).fetchall()
    reasons = {row["name"]: postgres_tuning.why(row["name"]) for row in rows}
    without = [name for name, why in reasons.items() if why is None]
    ours = file(work, "src/tidegate/stack/postgres_tuning.py")
    return "\n".join([
        *head(work, "Settings that are not PostgreSQL's own"),
        f"{len(rows)} settings differ on the server that was asked; the reasons stand beside the values in {ours}. "
        + (f"Nobody there has said why of {', '.join(f'`{name}`' for name in without)}: whoever runs this server has set them." if without else "None is without a reason."),
        "",
        *table(
            ["setting", "default", "here", "why"],
            [
                [f"`{r['name']}`", f"{r['boot_val'] or ''} {r['unit']}".strip(), f"{r['setting']} {r['unit']}".strip(), reasons[r["name"]] or "not said"]
                for r in rows
            ],
        ),
        *figures(work, [Asked("settings that differ, as the probe saw them", "config_diff", "changed")]),
        "## What that carries",
        "",
        *_benches(work),
        "pgbench's bank was filled with "
        f"{shown(value(work, 'pgbench', 'scale') or 10)} times 100,000 accounts, on the rehearsal beside the warehouse, whose settings are these.",
        "",
        "## As a fragment of postgresql.conf",
        "",
        *code("\n".join(f"{name} = '{text}'" for name, text in postgres_tuning.TUNING.items()), "ini"),
        f"Loaded beside it, where the build has them: {', '.join(f'`{name}`' for name in (postgres_databases.COUNTER, *postgres_databases.READS_LOGGED))}.",
    ])  # fmt: skip


def _benches(work: Work) -> list[str]:
    rows = [
        [one.figures["clients"], shown(one.figures["tps"]), shown(one.figures["latency_ms"]), one.figures.get("failed", 0), link(one)]
        for one in sorted(holding(work, "pgbench", "tps"), key=lambda one: int(one.figures["clients"]))
    ]  # fmt: skip
    if not rows:
        return figures(work, [Asked("transactions per second", "pgbench", "tps")])
    return table(["clients", "transactions/s", "latency, ms", "failed", "evidence"], rows)


#: What each module is there for.
_WANTED = {
    "plpgsql": "the ledger's functions and triggers are written in it",
    postgres_databases.COUNTER: "`tidegate queries` and the probe slow_queries count statements by it",
    "pgaudit": "who reads classified columns is logged, never the text of a statement (docs/decisions/0007)",
    "pgtap": "tests/sql run in it, on the rehearsal alone: the warehouse never has it",
}
#: What others would take it for, and what is here instead.
_WITHOUT = {
    "pgcrypto": "a key inside the server would be in its log and its backups: values are sealed before they arrive (docs/decisions/0006)",
    "pg_partman": "a partition is the table of a batch, made by publishing it and archived by its contract's retention",
    "uuid-ossp": "batches are called by the hash of what was delivered, so the same delivery has the same name",
    "pg_trgm": "no important query searches within texts",
}


_TABLES = f"""
SELECT n.nspname AS schema, c.relname AS name,
    CASE c.relkind WHEN 'p' THEN 'partitioned table' WHEN 'v' THEN 'view' ELSE 'table' END AS kind,
    (SELECT count(*) FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) AS columns,
    (SELECT count(*) FROM pg_constraint WHERE conrelid = c.oid AND contype IN ('p', 'u')) AS keys,
    (SELECT count(*) FROM pg_constraint WHERE conrelid = c.oid AND contype = 'f') AS pointers,
    (SELECT count(*) FROM pg_constraint WHERE conrelid = c.oid AND contype = 'c') AS checks,
    CASE WHEN c.relforcerowsecurity THEN 'for its owner, too' WHEN c.relrowsecurity THEN 'on' ELSE '' END AS guarded
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname IN {_OURS} AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition ORDER BY 1, 2
"""
_RULES = f"""
SELECT k.conrelid::regclass::text AS name, k.conname AS rule, pg_get_constraintdef(k.oid) AS told
FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname IN {_OURS} AND NOT c.relispartition AND k.contype IN ('c', 'f', 'u', 'p', 'x') ORDER BY 1, k.contype, 2
"""
_FUNCTIONS = """
SELECT p.proname AS name, pg_get_function_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS returns,
    l.lanname AS language, p.prosecdef AS definer, coalesce(obj_description(p.oid, 'pg_proc'), '') AS told,
    coalesce((SELECT split_part(s, '=', 2) FROM unnest(p.proconfig) AS s WHERE s LIKE 'search_path=%'), '') AS path,
    CASE WHEN p.proacl IS NULL THEN 'everybody' ELSE coalesce((
        SELECT string_agg(CASE a.grantee WHEN 0 THEN 'everybody' ELSE a.grantee::regrole::text END, ', ' ORDER BY a.grantee)
        FROM aclexplode(p.proacl) AS a WHERE a.privilege_type = 'EXECUTE' AND a.grantee <> p.proowner), 'nobody') END AS callers
FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang
WHERE p.pronamespace = 'ops'::regnamespace ORDER BY 1, 2
"""
_TRIGGERS = """
SELECT p.proname AS function, string_agg(DISTINCT coalesce(n.nspname || '.' || parent.relname, c.oid::regclass::text), ', ') AS tables,
    string_agg(DISTINCT t.tgname, ', ') AS events, count(*) AS count
FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid JOIN pg_class AS c ON c.oid = t.tgrelid
LEFT JOIN pg_inherits AS i ON i.inhrelid = c.oid LEFT JOIN pg_class AS parent ON parent.oid = i.inhparent
LEFT JOIN pg_namespace AS n ON n.oid = parent.relnamespace
WHERE NOT t.tgisinternal AND p.pronamespace = 'ops'::regnamespace GROUP BY 1 ORDER BY 1
"""
