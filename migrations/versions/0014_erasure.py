"""pre: whose data were erased on request, by whom, when and why; the person as a keyed hash alone."""

from alembic import op

from tidegate.migrate.aside import is_set_aside

revision = "0014"
down_revision = "0013"

UP = """
CREATE TABLE ops.erasure (
    erasure_id text PRIMARY KEY,
    columns text[] NOT NULL,
    digests text[] NOT NULL CHECK (cardinality(digests) = cardinality(columns)),
    key_id text NOT NULL,
    asked_by text NOT NULL,
    why text NOT NULL CHECK (why <> ''),
    row_counts jsonb NOT NULL DEFAULT '{}',
    began_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
COMMENT ON TABLE ops.erasure IS 'One row per person whose data were erased: who asked, why, how many rows where; never who it was.';
COMMENT ON COLUMN ops.erasure.digests IS 'Of the values that named the person, by column, under a key that the warehouse does not have.';
REVOKE ALL ON ops.erasure FROM app, readonly;
GRANT SELECT ON ops.erasure TO admin;
"""

DOWN = """
CREATE SCHEMA aside_0014;
ALTER TABLE ops.erasure SET SCHEMA aside_0014;
"""

AGAIN = """
ALTER TABLE aside_0014.erasure SET SCHEMA ops;
DROP SCHEMA aside_0014;
"""


def upgrade() -> None:
    op.execute(AGAIN if is_set_aside(revision) else UP)


def downgrade() -> None:
    op.execute(DOWN)
