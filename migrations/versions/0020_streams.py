"""pre: streams: how far each topic was read, what each micro-batch of it was, what was lost, held or refused.

Rows, refused messages, the record of the micro-batch and the offsets are written in one transaction: what stands in
ops.stream_offset is what was taken, whatever a broker thinks of it.
"""

from alembic import op

from tidegate.migrate.aside import is_set_aside

revision = "0020"
down_revision = "0019"

UP = """
CREATE TABLE ops.stream_offset (
    dataset text NOT NULL,
    topic_partition bigint NOT NULL CHECK (topic_partition >= 0),
    topic text NOT NULL,
    topic_incarnation text NOT NULL,
    next_offset bigint NOT NULL CHECK (next_offset >= 0),
    newest_event_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (dataset, topic_partition)
);
COMMENT ON TABLE ops.stream_offset IS 'How far each partition of a topic was taken in: the truth, of which the broker has a hint.';
COMMENT ON COLUMN ops.stream_offset.dataset IS 'Dataset that the messages are rows of.';
COMMENT ON COLUMN ops.stream_offset.topic_partition IS 'Partition of the topic.';
COMMENT ON COLUMN ops.stream_offset.topic IS 'Topic.';
COMMENT ON COLUMN ops.stream_offset.topic_incarnation IS 'Kafka''s id of the topic: another one when it was deleted and made again.';
COMMENT ON COLUMN ops.stream_offset.next_offset IS 'The first message that was not taken yet.';
COMMENT ON COLUMN ops.stream_offset.newest_event_at IS 'The newest event time among the rows taken from it; what is late is told by it.';
COMMENT ON COLUMN ops.stream_offset.updated_at IS 'When it last changed.';

CREATE TABLE ops.stream_batch (
    batch_id text PRIMARY KEY,
    dataset text NOT NULL,
    topic text NOT NULL,
    topic_incarnation text NOT NULL,
    contract_version text NOT NULL,
    message_count bigint NOT NULL CHECK (message_count >= 0),
    row_count bigint NOT NULL CHECK (row_count >= 0),
    known_count bigint NOT NULL CHECK (known_count >= 0),
    refused_count bigint NOT NULL CHECK (refused_count >= 0),
    late_count bigint NOT NULL CHECK (late_count >= 0),
    message_bytes bigint NOT NULL CHECK (message_bytes >= 0),
    first_event_at timestamptz,
    last_event_at timestamptz,
    first_sent_at timestamptz,
    latency_p50_seconds double precision,
    latency_p95_seconds double precision,
    latency_p99_seconds double precision,
    taking_seconds double precision NOT NULL,
    committed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (message_count = row_count + known_count + refused_count)
);
COMMENT ON TABLE ops.stream_batch IS 'One row per micro-batch of a topic: what was read, and what became of it.';
COMMENT ON COLUMN ops.stream_batch.batch_id IS 'Derived from the offsets that it read: the same messages are the same batch.';
COMMENT ON COLUMN ops.stream_batch.dataset IS 'Dataset.';
COMMENT ON COLUMN ops.stream_batch.topic IS 'Topic.';
COMMENT ON COLUMN ops.stream_batch.topic_incarnation IS 'Kafka''s id of the topic.';
COMMENT ON COLUMN ops.stream_batch.contract_version IS 'Version of the contract that judged it.';
COMMENT ON COLUMN ops.stream_batch.message_count IS 'Messages read: rows, known and refused ones.';
COMMENT ON COLUMN ops.stream_batch.row_count IS 'Rows that it added.';
COMMENT ON COLUMN ops.stream_batch.known_count IS 'Messages whose row was there already, the same in every column.';
COMMENT ON COLUMN ops.stream_batch.refused_count IS 'Messages that went to quarantine.';
COMMENT ON COLUMN ops.stream_batch.late_count IS 'Rows whose event lay further behind the newest one than the contract allows; they were taken.';
COMMENT ON COLUMN ops.stream_batch.message_bytes IS 'Bytes of keys and values.';
COMMENT ON COLUMN ops.stream_batch.first_event_at IS 'Event time of its oldest row.';
COMMENT ON COLUMN ops.stream_batch.last_event_at IS 'Event time of its newest row.';
COMMENT ON COLUMN ops.stream_batch.first_sent_at IS 'When its oldest message was sent.';
COMMENT ON COLUMN ops.stream_batch.latency_p50_seconds IS 'From sent to visible, median.';
COMMENT ON COLUMN ops.stream_batch.latency_p95_seconds IS 'From sent to visible, 95th percentile.';
COMMENT ON COLUMN ops.stream_batch.latency_p99_seconds IS 'From sent to visible, 99th percentile.';
COMMENT ON COLUMN ops.stream_batch.taking_seconds IS 'From its first message polled to the end of its transaction.';
COMMENT ON COLUMN ops.stream_batch.committed_at IS 'When its rows became visible.';
CREATE INDEX stream_batch_by_dataset ON ops.stream_batch (dataset, committed_at);
COMMENT ON INDEX ops.stream_batch_by_dataset IS 'The newest micro-batches of a dataset: the share refused lately, throughput, latency.';

CREATE TABLE ops.stream_range (
    batch_id text NOT NULL REFERENCES ops.stream_batch (batch_id),
    topic_partition bigint NOT NULL,
    first_offset bigint NOT NULL,
    next_offset bigint NOT NULL,
    PRIMARY KEY (batch_id, topic_partition),
    CHECK (next_offset > first_offset)
);
COMMENT ON TABLE ops.stream_range IS 'Which offsets each micro-batch read: of one partition they follow each other without a hole.';
COMMENT ON COLUMN ops.stream_range.batch_id IS 'Micro-batch.';
COMMENT ON COLUMN ops.stream_range.topic_partition IS 'Partition of the topic.';
COMMENT ON COLUMN ops.stream_range.first_offset IS 'First offset that it read.';
COMMENT ON COLUMN ops.stream_range.next_offset IS 'First offset that it did not read.';

CREATE TABLE ops.stream_gap (
    gap_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dataset text NOT NULL,
    topic text NOT NULL,
    topic_incarnation text NOT NULL,
    topic_partition bigint NOT NULL,
    kind text NOT NULL CHECK (kind IN ('removed unread', 'topic made again', 'taken back')),
    first_offset bigint NOT NULL,
    next_offset bigint NOT NULL,
    found_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE ops.stream_gap IS 'Where a topic could not be read on from the offset that was due, for the broker does not have it.';
COMMENT ON COLUMN ops.stream_gap.gap_id IS 'Number.';
COMMENT ON COLUMN ops.stream_gap.dataset IS 'Dataset.';
COMMENT ON COLUMN ops.stream_gap.topic IS 'Topic.';
COMMENT ON COLUMN ops.stream_gap.topic_incarnation IS 'Kafka''s id of the topic that is read on.';
COMMENT ON COLUMN ops.stream_gap.topic_partition IS 'Partition of the topic.';
COMMENT ON COLUMN ops.stream_gap.kind IS 'Removed before they were read, gone with a topic that was deleted, or taken back: lost by the broker after they were read.';
COMMENT ON COLUMN ops.stream_gap.first_offset IS 'Offset that was due.';
COMMENT ON COLUMN ops.stream_gap.next_offset IS 'Offset that is read on from.';
COMMENT ON COLUMN ops.stream_gap.found_at IS 'When it was noticed.';
CREATE INDEX stream_gap_by_dataset ON ops.stream_gap (dataset);
COMMENT ON INDEX ops.stream_gap_by_dataset IS 'What was lost of a dataset.';

CREATE TABLE ops.stream_hold (
    hold_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dataset text NOT NULL,
    reason text NOT NULL,
    topic_incarnation text NOT NULL,
    next_offsets jsonb NOT NULL,
    held_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    released_by text,
    why text,
    released_at timestamptz,
    CHECK ((released_at IS NULL) = (released_by IS NULL) AND (released_at IS NULL) = (why IS NULL))
);
COMMENT ON TABLE ops.stream_hold IS 'When a stream stood still because too much of it was refused, and who let it go on.';
COMMENT ON COLUMN ops.stream_hold.hold_id IS 'Number.';
COMMENT ON COLUMN ops.stream_hold.dataset IS 'Dataset.';
COMMENT ON COLUMN ops.stream_hold.reason IS 'What was refused, of how much, and what the contract allows.';
COMMENT ON COLUMN ops.stream_hold.topic_incarnation IS 'Kafka''s id of the topic.';
COMMENT ON COLUMN ops.stream_hold.next_offsets IS 'By partition, where the messages end that it is about: a release lets these through.';
COMMENT ON COLUMN ops.stream_hold.held_at IS 'When it began to stand.';
COMMENT ON COLUMN ops.stream_hold.released_by IS 'Who let it go on.';
COMMENT ON COLUMN ops.stream_hold.why IS 'Their reason.';
COMMENT ON COLUMN ops.stream_hold.released_at IS 'When; empty while it stands.';
CREATE UNIQUE INDEX stream_hold_one_at_a_time ON ops.stream_hold (dataset) WHERE released_at IS NULL;
COMMENT ON INDEX ops.stream_hold_one_at_a_time IS 'A stream is held once, however many workers find a reason.';

CREATE TABLE quarantine.refused_message (
    refused_message_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    batch_id text NOT NULL REFERENCES ops.stream_batch (batch_id),
    dataset text NOT NULL,
    contract_version text NOT NULL,
    topic text NOT NULL,
    topic_partition bigint NOT NULL,
    message_offset bigint NOT NULL,
    sent_at timestamptz NOT NULL,
    message_key bytea,
    message_value bytea,
    headers jsonb NOT NULL,
    column_name text NOT NULL,
    value text,
    rule text NOT NULL,
    expected text NOT NULL,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'replayed')),
    refused_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    closed_at timestamptz,
    copied_at timestamptz,
    UNIQUE (batch_id, topic_partition, message_offset),
    CHECK ((state = 'open') = (closed_at IS NULL))
);
COMMENT ON TABLE quarantine.refused_message IS 'Messages that their contract refused, as they came, until somebody repairs and replays them; never deleted.';
COMMENT ON COLUMN quarantine.refused_message.refused_message_id IS 'Number.';
COMMENT ON COLUMN quarantine.refused_message.batch_id IS 'Micro-batch that read it.';
COMMENT ON COLUMN quarantine.refused_message.dataset IS 'Dataset.';
COMMENT ON COLUMN quarantine.refused_message.contract_version IS 'Version of the contract that refused it.';
COMMENT ON COLUMN quarantine.refused_message.topic IS 'Topic.';
COMMENT ON COLUMN quarantine.refused_message.topic_partition IS 'Partition of the topic.';
COMMENT ON COLUMN quarantine.refused_message.message_offset IS 'Its place in the partition.';
COMMENT ON COLUMN quarantine.refused_message.sent_at IS 'When it was sent.';
COMMENT ON COLUMN quarantine.refused_message.message_key IS 'Its key, as it came.';
COMMENT ON COLUMN quarantine.refused_message.message_value IS 'Its value, as it came.';
COMMENT ON COLUMN quarantine.refused_message.headers IS 'Its headers, name and value, in their order.';
COMMENT ON COLUMN quarantine.refused_message.column_name IS 'Column whose rule it broke; empty where the whole message did.';
COMMENT ON COLUMN quarantine.refused_message.value IS 'Text of that column.';
COMMENT ON COLUMN quarantine.refused_message.rule IS 'Kind of the first rule that it broke.';
COMMENT ON COLUMN quarantine.refused_message.expected IS 'What was expected.';
COMMENT ON COLUMN quarantine.refused_message.state IS 'Whether it still waits for repair.';
COMMENT ON COLUMN quarantine.refused_message.refused_at IS 'When it was refused.';
COMMENT ON COLUMN quarantine.refused_message.closed_at IS 'When it was replayed.';
COMMENT ON COLUMN quarantine.refused_message.copied_at IS 'When it was copied to the topic of dead letters; empty until then.';
CREATE INDEX refused_message_by_dataset ON quarantine.refused_message (dataset, state);
COMMENT ON INDEX quarantine.refused_message_by_dataset IS 'What waits for repair.';
CREATE INDEX refused_message_uncopied ON quarantine.refused_message (dataset) WHERE copied_at IS NULL;
COMMENT ON INDEX quarantine.refused_message_uncopied IS 'What is still to be copied to the topic of dead letters.';
"""

#: In an order that foreign keys do not mind.
_TABLES = (
    ("quarantine", "refused_message"), ("ops", "stream_range"), ("ops", "stream_batch"), ("ops", "stream_offset"),
    ("ops", "stream_gap"), ("ops", "stream_hold"),
)  # fmt: skip

DOWN = "\n".join(
    [
        "CREATE SCHEMA aside_0020;",
        *(f"ALTER TABLE {schema}.{table} SET SCHEMA aside_0020;" for schema, table in _TABLES),
    ]
)

AGAIN = "\n".join(
    [*(f"ALTER TABLE aside_0020.{table} SET SCHEMA {schema};" for schema, table in _TABLES), "DROP SCHEMA aside_0020;"]
)


def upgrade() -> None:
    op.execute(AGAIN if is_set_aside(revision) else UP)


def downgrade() -> None:
    op.execute(DOWN)
