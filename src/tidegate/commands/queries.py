"""`tidegate queries`: how fast the important queries are, what PostgreSQL spends its time on, which indexes help."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command()(queries)


def queries(
    name: str | None = typer.Argument(None, help="One query of `queries/`: its plan is printed."),
    runs: int = typer.Option(200, "--runs", min=1, help="How often each query is run, with other parameters."),
    json: bool = typer.Option(False, "--json", help="As JSON, for scripts."),
) -> None:
    """Time the queries of `queries/` against their targets; show slow statements and the state of indexes."""
    from tidegate.commands._display import print_json, print_table
    from tidegate.errors import UsageError
    from tidegate.evidence import indexes
    from tidegate.evidence import queries as important
    from tidegate.settings import get_settings
    from tidegate.stores.postgres import connect

    settings = get_settings()
    known = important.read(settings.project)
    if name is not None and name not in {query.name for query in known}:
        raise UsageError(f"no query {name!r} in queries/: there are {', '.join(query.name for query in known)}")
    with connect(settings, autocommit=True) as connection:
        if name is not None:
            (query,) = [query for query in known if query.name == name]
            print_json(important.explain(connection, query))
            return
        timed = [(query, important.measure(connection, query, runs)) for query in known]
        scans = {query.name: important.whole_reads(important.explain(connection, query)) for query in known}
        there = indexes.of_warehouse(connection)
        slowest, whole = indexes.slowest(connection), indexes.read_whole(connection)
        missing = indexes.foreign_keys_without(connection)
    if json:
        print_json(
            {
                "queries": [
                    {
                        "name": q.name,
                        "target_ms": q.target_ms,
                        "target_source": q.target_source,
                        **vars(t),
                        "whole_reads": scans[q.name],
                    }
                    for q, t in timed
                ],
                "slowest": slowest,
                "read_whole": whole,
                "unused_indexes": indexes.unused(there),
                "foreign_keys_without_index": missing,
            }
        )
        return
    print_table(
        ("query", "P50 ms", "P95 ms", "P99 ms", "target", "written in", "", "reads whole"),
        [
            (q.name, f"{t.p50_ms:.2f}", f"{t.p95_ms:.2f}", f"{t.p99_ms:.2f}", f"< {q.target_ms:g} ms", q.target_source,
             "PASS" if t.p95_ms < q.target_ms else "FAIL",
             ", ".join(f"{s.table} ({s.rows} rows)" for s in scans[q.name] if s.table not in q.scans))
            for q, t in timed
        ],
    )  # fmt: skip
    if slowest is None:
        typer.echo("\nNobody counts statements: the server does not load pg_stat_statements.")
    else:
        typer.echo("\nWhere the time went:")
        print_table(
            ("total ms", "calls", "mean ms", "rows", "statement"),
            [(s["total_ms"], s["calls"], s["mean_ms"], s["rows"], s["statement"][:120]) for s in slowest],
        )
        for statement in slowest:
            if statement["plan"]:
                typer.echo(f"\n{statement['statement'][:120]}")
                typer.echo("\n".join(f"  {line}" for line in statement["plan"]))
    typer.echo("\nLarge tables that are read whole:")
    print_table(("table", "times", "rows a time", "by index"), [tuple(row.values()) for row in whole])
    typer.echo("\nIndexes that no query has used yet:")
    print_table(("index", "table", "bytes", "why it is there"), [
        (index.name, index.table, index.size_bytes, index.reason) for index in indexes.unused(there)
    ])  # fmt: skip
    for told in missing:
        typer.echo(f"A foreign key without an index: {told}")
