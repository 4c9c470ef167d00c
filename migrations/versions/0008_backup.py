"""pre: backups in the ledger."""

from alembic import op

from tidegate.migrate.aside import is_set_aside

revision = "0008"
down_revision = "0006"

UP = """
CREATE TABLE ops.backup (
    backup_id text PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('full', 'incremental')),
    tool text NOT NULL,
    cluster text NOT NULL,
    timeline bigint NOT NULL,
    start_lsn pg_lsn NOT NULL,
    stop_lsn pg_lsn NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    bytes bigint NOT NULL,
    based_on text REFERENCES ops.backup,
    verified_at timestamptz,
    removed_at timestamptz,
    CHECK ((kind = 'incremental') = (based_on IS NOT NULL))
);
COMMENT ON TABLE ops.backup IS
    'One row per backup of the warehouse: where in the WAL it begins and ends, when it was last found whole, when removed.';
CREATE INDEX backup_by_base ON ops.backup (based_on) WHERE based_on IS NOT NULL;
COMMENT ON INDEX ops.backup_by_base IS 'For its foreign key: which incremental backups hang on a full one.';
"""

DOWN = """
CREATE SCHEMA aside_0008;
ALTER TABLE ops.backup SET SCHEMA aside_0008;
"""

AGAIN = """
ALTER TABLE aside_0008.backup SET SCHEMA ops;
DROP SCHEMA aside_0008;
"""


def upgrade() -> None:
    op.execute(AGAIN if is_set_aside(revision) else UP)


def downgrade() -> None:
    op.execute(DOWN)
