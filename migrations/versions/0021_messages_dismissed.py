"""pre: a refused message may be dismissed, which is what becomes of an open one when the person in it is erased.

The rule is only made wider, so every row keeps it; 0022 lets PostgreSQL look, while readers go on.
"""

from alembic import op

from tidegate.migrate.aside import is_set_aside

revision = "0021"
down_revision = "0020"

UP = """
-- squawk-ignore ban-drop-constraint
ALTER TABLE quarantine.refused_message DROP CONSTRAINT refused_message_state_check;
ALTER TABLE quarantine.refused_message ADD CONSTRAINT refused_message_state_check CHECK (
    state IN ('open', 'replayed', 'dismissed')
) NOT VALID;
"""

# To programs of before a message that nobody can repair any more is closed, which they call replayed.
DOWN = """
CREATE SCHEMA aside_0021;
CREATE TABLE aside_0021.dismissed AS SELECT refused_message_id FROM quarantine.refused_message WHERE state = 'dismissed';
UPDATE quarantine.refused_message SET state = 'replayed' WHERE state = 'dismissed';
ALTER TABLE quarantine.refused_message DROP CONSTRAINT refused_message_state_check;
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE quarantine.refused_message ADD CONSTRAINT refused_message_state_check CHECK (state IN ('open', 'replayed'));
"""

AGAIN = f"""
{UP}
UPDATE quarantine.refused_message SET state = 'dismissed'
WHERE refused_message_id IN (SELECT refused_message_id FROM aside_0021.dismissed);
DROP TABLE aside_0021.dismissed;
DROP SCHEMA aside_0021;
"""


def upgrade() -> None:
    op.execute(AGAIN if is_set_aside(revision) else UP)


def downgrade() -> None:
    op.execute(DOWN)
