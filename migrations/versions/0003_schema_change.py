"""pre: the log of every change to the schema, made by a migration or asked for by a contract."""

from alembic import op

from tidegate.migrate.aside import is_set_aside

revision = "0003"
down_revision = "0002"

UP = """
CREATE TABLE ops.schema_change (
    schema_change_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    door text NOT NULL CHECK (door IN ('migration', 'contract')),
    name text NOT NULL,
    direction text NOT NULL CHECK (direction IN ('up', 'down')),
    statements text NOT NULL,
    seconds double precision NOT NULL,
    changed_by text NOT NULL DEFAULT session_user,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE ops.schema_change IS
    'One row per change to the schema: which migration or which version of which contract, its statements, by whom.';
CREATE INDEX schema_change_by_name ON ops.schema_change (name, schema_change_id);

INSERT INTO ops.schema_change (door, name, direction, statements, seconds)
VALUES ('migration', '0001', 'up', '-- before changes were written down', 0),
       ('migration', '0002', 'up', '-- before changes were written down', 0);
"""

DOWN = """
CREATE SCHEMA aside_0003;
ALTER TABLE ops.schema_change SET SCHEMA aside_0003;
"""

AGAIN = """
ALTER TABLE aside_0003.schema_change SET SCHEMA ops;
DROP SCHEMA aside_0003;
"""


def upgrade() -> None:
    op.execute(AGAIN if is_set_aside(revision) else UP)


def downgrade() -> None:
    op.execute(DOWN)
