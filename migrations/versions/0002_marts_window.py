"""post: the marts become a window: views that choose a set by the reader's snapshot.

Until now `marts` held the tables themselves. They move to `marts_current`; the next `tidegate marts build` opens
the window on them.
"""

from alembic import op

from tidegate.migrate.aside import is_set_aside

revision = "0002"
down_revision = "0001"

# The function, and the marts behind the window.
_WINDOW = """
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

_STATES = """
ALTER TABLE ops.marts_build DROP CONSTRAINT marts_build_state_check;
-- It has a row a build.
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE ops.marts_build ADD CONSTRAINT marts_build_state_check
    CHECK (state IN ('built', 'judged', 'held', 'published', 'superseded', 'undone'));
"""

UP = f"""
CREATE TABLE ops.marts_swap (
    swap_id bigint PRIMARY KEY,
    build_id text NOT NULL REFERENCES ops.marts_build,
    swapped_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ops.marts_swap IS 'What readers see from when on: the newest row that a snapshot holds names its build.';

INSERT INTO ops.marts_swap (swap_id, build_id) SELECT 1, build_id FROM ops.marts_build WHERE state = 'published';
{_STATES}{_WINDOW}"""

DOWN = """
DO $$
BEGIN
    IF to_regnamespace('marts_current') IS NOT NULL THEN
        DROP SCHEMA IF EXISTS marts CASCADE;  -- views alone: the next build opens the window anew
        ALTER SCHEMA marts_current RENAME TO marts;
    END IF;
END
$$;
DROP FUNCTION ops.outlived;
CREATE SCHEMA aside_0002;
CREATE TABLE aside_0002.judged AS SELECT build_id FROM ops.marts_build WHERE state = 'judged';
UPDATE ops.marts_build SET state = 'built' WHERE state = 'judged';
ALTER TABLE ops.marts_build DROP CONSTRAINT marts_build_state_check;
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE ops.marts_build ADD CONSTRAINT marts_build_state_check
    CHECK (state IN ('built', 'held', 'published', 'superseded', 'undone'));
ALTER TABLE ops.marts_swap SET SCHEMA aside_0002;
"""

# Marts that were published meanwhile, without the window, are what readers see now.
AGAIN = f"""
ALTER TABLE aside_0002.marts_swap SET SCHEMA ops;
INSERT INTO ops.marts_swap (swap_id, build_id)
SELECT coalesce(max(s.swap_id), 0) + 1, b.build_id
FROM ops.marts_build AS b LEFT JOIN ops.marts_swap AS s ON true
WHERE b.state = 'published'
GROUP BY b.build_id
HAVING b.build_id IS DISTINCT FROM (SELECT build_id FROM ops.marts_swap ORDER BY swap_id DESC LIMIT 1);
{_STATES}
UPDATE ops.marts_build SET state = 'judged' WHERE state = 'built' AND build_id IN (SELECT build_id FROM aside_0002.judged);
DROP TABLE aside_0002.judged;
DROP SCHEMA aside_0002;
{_WINDOW}"""


def upgrade() -> None:
    op.execute(AGAIN if is_set_aside(revision) else UP)


def downgrade() -> None:
    op.execute(DOWN)
