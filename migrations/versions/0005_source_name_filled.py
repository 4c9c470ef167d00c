"""pre: source_name is filled in for the batches that had source alone.

Rows are locked, the table is not: readers and writers go on.
"""

from alembic import op

revision = "0005"
down_revision = "0004"

UP = """
UPDATE ops.batch SET source_name = source WHERE source_name IS NULL;
ALTER TABLE ops.batch VALIDATE CONSTRAINT batch_source_name_given;
"""

# What is filled in stays so: the old name says the same.
DOWN = """
ALTER TABLE ops.batch DROP CONSTRAINT batch_source_name_given;
ALTER TABLE ops.batch ADD CONSTRAINT batch_source_name_given CHECK (source_name IS NOT NULL) NOT VALID;
"""

AGAIN = UP


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
