"""pre: the states and decisions of 0016 hold for the rows of before, too; readers go on while they are looked at."""

from alembic import op

revision = "0017"
down_revision = "0016"

UP = """
ALTER TABLE ops.batch VALIDATE CONSTRAINT batch_state_check;
ALTER TABLE ops.decision VALIDATE CONSTRAINT decision_action_check;
"""

DOWN = """
ALTER TABLE ops.decision DROP CONSTRAINT decision_action_check;
ALTER TABLE ops.decision ADD CONSTRAINT decision_action_check CHECK (
    action IN ('release', 'reject', 'undo', 'replay', 'restore')
) NOT VALID;
ALTER TABLE ops.batch DROP CONSTRAINT batch_state_check;
ALTER TABLE ops.batch ADD CONSTRAINT batch_state_check CHECK (
    state IN ('landed', 'staged', 'judged', 'held', 'published', 'superseded', 'undone', 'rejected', 'archived')
) NOT VALID;
"""

AGAIN = UP


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
