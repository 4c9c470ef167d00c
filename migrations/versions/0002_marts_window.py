"""post: the marts become a window: views that choose a set by the reader's snapshot.

Until now `marts` held the tables themselves. They move to `marts_current`; the next `tidegate marts build` opens
the window on them.
"""

from alembic import op

revision = "0002"
down_revision = "0001"

UP = """
CREATE TABLE ops.marts_swap (
    swap_id bigint PRIMARY KEY,
    build_id text NOT NULL REFERENCES ops.marts_build,
    swapped_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ops.marts_swap IS 'What readers see from when on: the newest row that a snapshot holds names its build.';

INSERT INTO ops.marts_swap (swap_id, build_id) SELECT 1, build_id FROM ops.marts_build WHERE state = 'published';

ALTER TABLE ops.marts_build DROP CONSTRAINT marts_build_state_check;
ALTER TABLE ops.marts_build ADD CONSTRAINT marts_build_state_check
    CHECK (state IN ('built', 'judged', 'held', 'published', 'superseded', 'undone'));

-- Volatile: the planner must not try it out.
CREATE FUNCTION ops.outlived() RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RAISE EXCEPTION 'the marts that this transaction began with have been replaced twice'
        USING ERRCODE = 'snapshot_too_old', HINT = 'Begin a new transaction.';
END
$$;
COMMENT ON FUNCTION ops.outlived IS 'Ends a transaction that is too old for the marts: better an error than an empty mart.';

DO $$
BEGIN
    IF to_regnamespace('marts') IS NOT NULL THEN
        ALTER SCHEMA marts RENAME TO marts_current;
    END IF;
END
$$;
"""

DOWN = """
DO $$
BEGIN
    IF to_regnamespace('marts_current') IS NOT NULL THEN
        DROP SCHEMA IF EXISTS marts CASCADE;
        ALTER SCHEMA marts_current RENAME TO marts;
    END IF;
END
$$;
DROP FUNCTION ops.outlived;
UPDATE ops.marts_build SET state = 'built' WHERE state = 'judged';
ALTER TABLE ops.marts_build DROP CONSTRAINT marts_build_state_check;
ALTER TABLE ops.marts_build ADD CONSTRAINT marts_build_state_check
    CHECK (state IN ('built', 'held', 'published', 'superseded', 'undone'));
DROP TABLE ops.marts_swap;
"""


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
