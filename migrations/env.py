"""Runs migrations in one transaction each, under one advisory lock; called by tidegate.stores.migrate."""

from alembic import context
from sqlalchemy import create_engine, pool, text

url = context.config.attributes["url"].replace("postgresql://", "postgresql+psycopg://", 1)
engine = create_engine(url, poolclass=pool.NullPool)

with engine.connect() as connection:
    # Two `tidegate up` at once: the second waits here and then finds nothing to do.
    connection.execute(text("SELECT pg_advisory_lock(hashtextextended('tidegate migrations', 0))"))
    connection.execute(text("CREATE SCHEMA IF NOT EXISTS ops"))
    connection.commit()
    context.configure(
        connection=connection, version_table="migration", version_table_schema="ops", transaction_per_migration=True
    )
    with context.begin_transaction():
        context.run_migrations()
    connection.commit()
