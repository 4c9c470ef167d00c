"""pre: every index says why it is there, and every foreign key has one.

The reasons are comments on the indexes, from which the index strategy (docs/reference/indexes.md) is written.
"""

from alembic import op

revision = "0011"
down_revision = "0010"

UP = """
-- A row a delivery and a row a build: made before a writer notices.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX batch_by_previous ON ops.batch (previous_batch_id) WHERE previous_batch_id IS NOT NULL;
COMMENT ON INDEX ops.batch_by_previous IS 'For its foreign key: which batch replaced this one.';
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX marts_swap_by_build ON ops.marts_swap (build_id);
COMMENT ON INDEX ops.marts_swap_by_build IS 'For its foreign key: when a build was shown.';
COMMENT ON INDEX ops.batch_by_dataset IS 'The batches of a dataset or a partition in the order of their arrival: tidegate batch list.';
COMMENT ON INDEX ops.step_by_subject IS 'The steps of one batch or build, in order: tidegate batch show, the report.';
COMMENT ON INDEX ops.verdict_by_subject IS 'What the gates said of one batch or build: every judgement, tidegate batch show.';
COMMENT ON INDEX ops.verdict_by_evidence IS 'For its foreign key: which verdicts rest on a piece of evidence.';
COMMENT ON INDEX ops.decision_by_subject IS 'What people decided about one batch or build, in order.';
COMMENT ON INDEX quarantine.refused_row_open IS 'The rows of a partition that wait to be repaired; those that are closed stay out of it.';
COMMENT ON INDEX ops.schema_change_by_name IS 'When a migration was last applied: tidegate migrate status.';
"""

DOWN = """
COMMENT ON INDEX ops.schema_change_by_name IS NULL;
COMMENT ON INDEX quarantine.refused_row_open IS NULL;
COMMENT ON INDEX ops.decision_by_subject IS NULL;
COMMENT ON INDEX ops.verdict_by_evidence IS NULL;
COMMENT ON INDEX ops.verdict_by_subject IS NULL;
COMMENT ON INDEX ops.step_by_subject IS NULL;
COMMENT ON INDEX ops.batch_by_dataset IS NULL;
-- squawk-ignore require-concurrent-index-deletion
DROP INDEX ops.marts_swap_by_build;
-- squawk-ignore require-concurrent-index-deletion
DROP INDEX ops.batch_by_previous;
"""

AGAIN = UP


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
