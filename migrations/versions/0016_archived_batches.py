"""pre: a batch may be archived, which is to be kept as Parquet alone, and a person may decide to restore it.

The two rules are only made wider, so every row keeps them; 0017 lets PostgreSQL look, while readers go on.
"""

from alembic import op

from tidegate.migrate.aside import is_set_aside

revision = "0016"
down_revision = "0015"

UP = """
-- squawk-ignore ban-drop-constraint
ALTER TABLE ops.batch DROP CONSTRAINT batch_state_check;
ALTER TABLE ops.batch ADD CONSTRAINT batch_state_check CHECK (
    state IN ('landed', 'staged', 'judged', 'held', 'published', 'superseded', 'undone', 'rejected', 'archived')
) NOT VALID;
-- squawk-ignore ban-drop-constraint
ALTER TABLE ops.decision DROP CONSTRAINT decision_action_check;
ALTER TABLE ops.decision ADD CONSTRAINT decision_action_check CHECK (
    action IN ('release', 'reject', 'undo', 'replay', 'restore')
) NOT VALID;
"""

# Programs of before know no archived batch. To them it was taken back, and who restored it has released it.
DOWN = """
CREATE SCHEMA aside_0016;
CREATE TABLE aside_0016.archived AS SELECT batch_id FROM ops.batch WHERE state = 'archived';
CREATE TABLE aside_0016.restored AS SELECT decision_id FROM ops.decision WHERE action = 'restore';
UPDATE ops.batch SET state = 'undone' WHERE state = 'archived';
UPDATE ops.decision SET action = 'release' WHERE action = 'restore';
ALTER TABLE ops.decision DROP CONSTRAINT decision_action_check;
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE ops.decision ADD CONSTRAINT decision_action_check CHECK (action IN ('release', 'reject', 'undo', 'replay'));
ALTER TABLE ops.batch DROP CONSTRAINT batch_state_check;
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE ops.batch ADD CONSTRAINT batch_state_check CHECK (
    state IN ('landed', 'staged', 'judged', 'held', 'published', 'superseded', 'undone', 'rejected')
);
"""

AGAIN = f"""
{UP}
UPDATE ops.batch SET state = 'archived' WHERE state = 'undone' AND batch_id IN (SELECT batch_id FROM aside_0016.archived);
UPDATE ops.decision SET action = 'restore' WHERE decision_id IN (SELECT decision_id FROM aside_0016.restored);
DROP TABLE aside_0016.restored;
DROP TABLE aside_0016.archived;
DROP SCHEMA aside_0016;
"""


def upgrade() -> None:
    op.execute(AGAIN if is_set_aside(revision) else UP)


def downgrade() -> None:
    op.execute(DOWN)
