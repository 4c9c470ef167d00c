"""Runs migrations in one transaction each, under one advisory lock; called by tidegate.migrate.door."""

from alembic import context
from sqlalchemy import create_engine, pool, text

attributes = context.config.attributes
url = attributes["url"].replace("postgresql://", "postgresql+psycopg://", 1)
engine = create_engine(url, poolclass=pool.NullPool)

LOG = text("""
    INSERT INTO ops.schema_change (door, name, direction, statements, seconds)
    VALUES ('migration', :name, :direction, :statements, extract(epoch FROM clock_timestamp() - now()))
""")


def write_down(ctx, step, heads, run_args):  # noqa: ARG001
    """Add a line to the log, in the transaction of the migration that it is about."""
    if not ctx.connection.scalar(text("SELECT to_regclass('ops.schema_change')")):
        return
    module = step.up_revision.module
    statements = module.UP if step.is_upgrade else module.DOWN
    direction = "up" if step.is_upgrade else "down"
    ctx.connection.execute(LOG, {"name": step.up_revision_id, "direction": direction, "statements": statements})


with engine.connect() as connection:
    # Two `tidegate up` at once: the second waits here and then finds nothing to do.
    connection.execute(text("SET lock_timeout = '60s'"))
    connection.execute(text("SELECT pg_advisory_lock(hashtextextended(:lock, 0))"), {"lock": attributes["lock"]})
    connection.execute(text("SELECT set_config('lock_timeout', :limit, false)"), {"limit": attributes["lock_timeout"]})
    connection.execute(text("CREATE SCHEMA IF NOT EXISTS ops"))
    connection.commit()
    context.configure(
        connection=connection,
        version_table="migration",
        version_table_schema="ops",
        transaction_per_migration=True,
        on_version_apply=write_down,
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
