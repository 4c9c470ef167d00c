"""pre: who worked on a batch last, by token, so that a worker who comes back late writes nothing."""

from alembic import op

from tidegate.migrate.aside import is_set_aside

revision = "0015"
down_revision = "0014"

UP = """
CREATE TABLE ops.fence (
    subject text PRIMARY KEY,
    token bigint NOT NULL,
    holder text NOT NULL,
    taken_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ops.fence IS
    'One row per batch that was ever worked on: the highest token so far, and whose it is. Who shows a lower one writes nothing.';
"""

DOWN = """
CREATE SCHEMA aside_0015;
ALTER TABLE ops.fence SET SCHEMA aside_0015;
"""

AGAIN = """
ALTER TABLE aside_0015.fence SET SCHEMA ops;
DROP SCHEMA aside_0015;
"""


def upgrade() -> None:
    op.execute(AGAIN if is_set_aside(revision) else UP)


def downgrade() -> None:
    op.execute(DOWN)
