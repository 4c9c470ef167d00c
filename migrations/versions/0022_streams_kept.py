"""pre: what keeps a stream's rows and its ledger bounded: since when a partition holds rows, and what became of old micro-batches.

A partition of a stream outlives its retention from when it was noticed. A micro-batch's rows may be archived; micro-batches
of a day are folded into one; and how far a topic was reconciled is remembered, so that it need not be read again.
"""

from alembic import op

from tidegate.migrate.aside import is_set_aside

revision = "0022"
down_revision = "0021"

_COUNTS = """
ALTER TABLE quarantine.refused_message VALIDATE CONSTRAINT refused_message_state_check;
ALTER TABLE ops.stream_batch ADD COLUMN archived_count bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN ops.stream_batch.archived_count IS 'Rows of it that went with a partition that was archived.';
ALTER TABLE ops.stream_batch ADD COLUMN folded_count bigint NOT NULL DEFAULT 1;
COMMENT ON COLUMN ops.stream_batch.folded_count IS 'Micro-batches that this row tells of: more than one where those of a day were folded.';
"""

UP = f"""
{_COUNTS}
CREATE TABLE ops.stream_partition (
    dataset text NOT NULL,
    partition text NOT NULL,
    noticed_at timestamptz NOT NULL,
    PRIMARY KEY (dataset, partition)
);
COMMENT ON TABLE ops.stream_partition IS 'Since when the partitions of streams hold rows: retention counts from there, where the interval is older.';
COMMENT ON COLUMN ops.stream_partition.dataset IS 'Dataset.';
COMMENT ON COLUMN ops.stream_partition.partition IS 'Partition of the dataset, not of the topic.';
COMMENT ON COLUMN ops.stream_partition.noticed_at IS 'When upkeep first found rows in it, which it looks for every day.';

CREATE TABLE ops.stream_reconciled (
    dataset text NOT NULL,
    topic_incarnation text NOT NULL,
    topic_partition bigint NOT NULL,
    next_offset bigint NOT NULL,
    horizon xid8 NOT NULL,
    server bigint NOT NULL,
    reconciled_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (dataset, topic_incarnation, topic_partition)
);
COMMENT ON TABLE ops.stream_reconciled IS 'How far each partition of a topic was found without a hole: the next reconciliation begins there.';
COMMENT ON COLUMN ops.stream_reconciled.dataset IS 'Dataset.';
COMMENT ON COLUMN ops.stream_reconciled.topic_incarnation IS 'Kafka''s id of the topic.';
COMMENT ON COLUMN ops.stream_reconciled.topic_partition IS 'Partition of the topic.';
COMMENT ON COLUMN ops.stream_reconciled.next_offset IS 'How far the partition had been taken then.';
COMMENT ON COLUMN ops.stream_reconciled.horizon IS 'Transactions before it had ended, so that their micro-batches were looked at.';
COMMENT ON COLUMN ops.stream_reconciled.server IS 'Identity of the server that counted them.';
COMMENT ON COLUMN ops.stream_reconciled.reconciled_at IS 'When.';
"""

# Folded rows stay: to programs of before each is one micro-batch.
DOWN = """
CREATE SCHEMA aside_0022;
CREATE TABLE aside_0022.counts AS SELECT batch_id, archived_count, folded_count FROM ops.stream_batch
    WHERE archived_count > 0 OR folded_count > 1;
ALTER TABLE ops.stream_batch DROP COLUMN archived_count, DROP COLUMN folded_count;
ALTER TABLE ops.stream_partition SET SCHEMA aside_0022;
ALTER TABLE ops.stream_reconciled SET SCHEMA aside_0022;
ALTER TABLE quarantine.refused_message DROP CONSTRAINT refused_message_state_check;
ALTER TABLE quarantine.refused_message ADD CONSTRAINT refused_message_state_check CHECK (
    state IN ('open', 'replayed', 'dismissed')
) NOT VALID;
"""

AGAIN = f"""
{_COUNTS}
UPDATE ops.stream_batch AS b SET archived_count = c.archived_count, folded_count = c.folded_count
    FROM aside_0022.counts AS c WHERE c.batch_id = b.batch_id;
ALTER TABLE aside_0022.stream_partition SET SCHEMA ops;
ALTER TABLE aside_0022.stream_reconciled SET SCHEMA ops;
DROP TABLE aside_0022.counts;
DROP SCHEMA aside_0022;
"""


def upgrade() -> None:
    op.execute(AGAIN if is_set_aside(revision) else UP)


def downgrade() -> None:
    op.execute(DOWN)
