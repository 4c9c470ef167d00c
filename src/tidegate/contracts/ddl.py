"""The tables of a dataset, derived from its contract: the published table and the table of one batch."""

from __future__ import annotations

from psycopg import sql

from tidegate.contracts.model import Contract

_PARTITION = sql.Identifier("_partition")


def _columns(contract: Contract) -> sql.Composed:
    return sql.SQL(",\n  ").join(
        sql.SQL("{} {}{}").format(
            sql.Identifier(column.name),
            sql.SQL(column.stored_type),
            sql.SQL(" NOT NULL" if column.required else ""),
        )
        for column in contract.columns
    )


def _key(contract: Contract) -> sql.Composed:
    return sql.SQL(", ").join([*map(sql.Identifier, contract.key), _PARTITION])


def published_table(contract: Contract) -> sql.Composed:
    """Return the DDL of the table that readers see; each of its partitions is one published batch."""
    primary = sql.SQL(",\n  PRIMARY KEY ({})").format(_key(contract)) if contract.key else sql.SQL("")
    create = sql.SQL(
        "CREATE TABLE IF NOT EXISTS {} (\n  {},\n  _partition text NOT NULL,\n  _batch_id text NOT NULL{}\n)"
        " PARTITION BY LIST (_partition)"
    ).format(sql.Identifier(contract.schema, contract.table), _columns(contract), primary)
    return sql.SQL(";\n").join([create, comments(contract)])


def comments(contract: Contract) -> sql.Composed:
    """Return the DDL that writes the contract's descriptions to the published table."""
    name = sql.Identifier(contract.schema, contract.table)
    described = f"{contract.description} {contract.grain}".strip()
    statements = [sql.SQL("COMMENT ON TABLE {} IS {}").format(name, sql.Literal(described))]
    statements += [
        sql.SQL("COMMENT ON COLUMN {} IS {}").format(
            sql.Identifier(contract.schema, contract.table, column.name), sql.Literal(column.told)
        )
        for column in contract.columns
    ]
    return sql.SQL(";\n").join(statements)


def batch_table(contract: Contract, name: str) -> sql.Composed:
    """Return the DDL of one batch's bare table in `staging`: no index, no lineage, made to be copied into.

    Autovacuum keeps away until it is published: it would take a processor from the gate, and publishing would
    wait for it a second long.
    """
    return sql.SQL("CREATE TABLE {} (\n  {}\n) WITH (autovacuum_enabled = off)").format(
        sql.Identifier("staging", name), _columns(contract)
    )


def finish_batch_table(contract: Contract, name: str, partition: str, batch_id: str) -> sql.Composed:
    """Return the DDL that makes a loaded batch table fit to be attached.

    The lineage columns come as defaults, which PostgreSQL keeps once for the table and not in each row. The
    constraint spares ATTACH its scan, which would hold a lock on the published table.
    """
    table = sql.Identifier("staging", name)
    steps = [
        sql.SQL(
            "ALTER TABLE {} ADD COLUMN _partition text NOT NULL DEFAULT {}, "
            "ADD COLUMN _batch_id text NOT NULL DEFAULT {}"
        ).format(table, sql.Literal(partition), sql.Literal(batch_id)),
        sql.SQL("ALTER TABLE {} ADD CONSTRAINT in_partition CHECK (_partition = {})").format(
            table, sql.Literal(partition)
        ),
    ]
    if contract.key:
        steps.append(sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(table, _key(contract)))
    return sql.SQL(";\n").join(steps)
