"""pre: the schemas and the ledger.

The ledger is append-mostly: rows change state, they are never deleted.
"""

from alembic import op

from tidegate.migrate.aside import is_set_aside

revision = "0001"
down_revision = None

UP = """
CREATE SCHEMA staging;
COMMENT ON SCHEMA staging IS 'Batches that have been copied in and not yet published, and the stg_ views of dbt.';
CREATE SCHEMA quarantine;
COMMENT ON SCHEMA quarantine IS 'Rows that a contract refused, kept until they are repaired and replayed.';
CREATE SCHEMA raw;
COMMENT ON SCHEMA raw IS 'Published datasets as delivered, typed by their contracts, a partition a batch.';
CREATE SCHEMA core;
COMMENT ON SCHEMA core IS 'Published outputs of transforms.';
CREATE SCHEMA archive;
COMMENT ON SCHEMA archive IS 'Batches that were published once and have been replaced or taken back.';

CREATE TABLE ops.batch (
    batch_id text PRIMARY KEY,
    dataset text NOT NULL,
    partition text NOT NULL,
    state text NOT NULL CHECK (state IN ('landed', 'staged', 'judged', 'held', 'published', 'superseded', 'undone', 'rejected')),
    contract_version text NOT NULL,
    source text NOT NULL,
    source_sha256 text NOT NULL,
    landing_url text NOT NULL,
    delivered_count bigint NOT NULL,
    accepted_count bigint NOT NULL,
    refused_count bigint NOT NULL,
    published_schema text NOT NULL,
    held_reason text,
    previous_batch_id text REFERENCES ops.batch,
    created_at timestamptz NOT NULL DEFAULT now(),
    published_at timestamptz,
    CHECK (delivered_count = accepted_count + refused_count)
);
COMMENT ON TABLE ops.batch IS 'One row per delivery of one dataset for one partition, judged under one contract version.';
CREATE UNIQUE INDEX batch_published_once ON ops.batch (dataset, partition) WHERE state = 'published';
COMMENT ON INDEX ops.batch_published_once IS 'At most one batch of a partition is visible.';
CREATE INDEX batch_by_dataset ON ops.batch (dataset, partition, created_at);

CREATE TABLE ops.step (
    step_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject text NOT NULL,
    step text NOT NULL,
    started_at timestamptz NOT NULL,
    seconds double precision NOT NULL,
    row_count bigint,
    note text
);
COMMENT ON TABLE ops.step IS 'One row per step that ended: which batch or build, how long it took, how many rows it handled.';
CREATE INDEX step_by_subject ON ops.step (subject, step_id);

CREATE TABLE ops.evidence (
    evidence_sha256 text PRIMARY KEY,
    kind text NOT NULL,
    path text NOT NULL,
    figures jsonb NOT NULL,
    taken_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ops.evidence IS 'Files that a probe or a judge has just written, by the hash of their content.';

CREATE TABLE ops.verdict (
    verdict_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject text NOT NULL,
    dataset text NOT NULL,
    partition text,
    gate text NOT NULL,
    rule text NOT NULL,
    verdict text NOT NULL CHECK (verdict IN ('PASS', 'WARN', 'FAIL')),
    value text NOT NULL,
    target text NOT NULL,
    target_source text NOT NULL,
    evidence_sha256 text REFERENCES ops.evidence,
    rule_set_version text NOT NULL,
    decided_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ops.verdict IS 'What each gate decided, rule by rule: the measured value, the target and where the target is written.';
CREATE INDEX verdict_by_subject ON ops.verdict (subject, gate);
CREATE INDEX verdict_by_evidence ON ops.verdict (evidence_sha256);

CREATE TABLE ops.decision (
    decision_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject text NOT NULL,
    action text NOT NULL CHECK (action IN ('release', 'reject', 'undo', 'replay')),
    decided_by text NOT NULL,
    why text NOT NULL,
    decided_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ops.decision IS 'What a person decided about a batch or a build, and why.';
CREATE INDEX decision_by_subject ON ops.decision (subject, decision_id);

CREATE TABLE ops.marts_build (
    build_id text PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('built', 'held', 'published', 'superseded', 'undone')),
    inputs jsonb NOT NULL,
    held_reason text,
    built_at timestamptz NOT NULL DEFAULT now(),
    published_at timestamptz
);
COMMENT ON TABLE ops.marts_build IS 'One row per candidate set of marts; inputs names the batches that it was built from.';
CREATE UNIQUE INDEX marts_published_once ON ops.marts_build ((true)) WHERE state = 'published';
COMMENT ON INDEX ops.marts_published_once IS 'At most one set of marts is visible.';

CREATE TABLE ops.table_layout (
    dataset text PRIMARY KEY,
    contract_version text NOT NULL,
    columns jsonb NOT NULL,
    key_columns jsonb NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ops.table_layout IS 'The contract version that each published table was last made or evolved for.';

CREATE TABLE quarantine.refused_row (
    refused_row_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    batch_id text NOT NULL,
    dataset text NOT NULL,
    partition text NOT NULL,
    contract_version text NOT NULL,
    source_file text NOT NULL,
    line bigint NOT NULL,
    column_name text NOT NULL,
    value text,
    rule text NOT NULL,
    expected text NOT NULL,
    record jsonb NOT NULL,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'replayed', 'dismissed')),
    replay_batch_id text,
    refused_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz,
    UNIQUE (batch_id, source_file, line)
);
COMMENT ON TABLE quarantine.refused_row IS 'One row per refused line of a delivery, with the first rule it broke and the record as delivered.';
CREATE INDEX refused_row_open ON quarantine.refused_row (dataset, partition) WHERE state = 'open';
"""

# What contracts have made lies in these schemas, with its rows: it goes aside with them.
DOWN = """
CREATE SCHEMA aside_0001;
ALTER TABLE quarantine.refused_row SET SCHEMA aside_0001;
ALTER TABLE ops.table_layout SET SCHEMA aside_0001;
ALTER TABLE ops.marts_build SET SCHEMA aside_0001;
ALTER TABLE ops.decision SET SCHEMA aside_0001;
ALTER TABLE ops.verdict SET SCHEMA aside_0001;
ALTER TABLE ops.evidence SET SCHEMA aside_0001;
ALTER TABLE ops.step SET SCHEMA aside_0001;
ALTER TABLE ops.batch SET SCHEMA aside_0001;
ALTER SCHEMA archive RENAME TO aside_0001_archive;
ALTER SCHEMA core RENAME TO aside_0001_core;
ALTER SCHEMA raw RENAME TO aside_0001_raw;
ALTER SCHEMA quarantine RENAME TO aside_0001_quarantine;
ALTER SCHEMA staging RENAME TO aside_0001_staging;
"""

AGAIN = """
ALTER SCHEMA aside_0001_staging RENAME TO staging;
ALTER SCHEMA aside_0001_quarantine RENAME TO quarantine;
ALTER SCHEMA aside_0001_raw RENAME TO raw;
ALTER SCHEMA aside_0001_core RENAME TO core;
ALTER SCHEMA aside_0001_archive RENAME TO archive;
ALTER TABLE aside_0001.batch SET SCHEMA ops;
ALTER TABLE aside_0001.step SET SCHEMA ops;
ALTER TABLE aside_0001.evidence SET SCHEMA ops;
ALTER TABLE aside_0001.verdict SET SCHEMA ops;
ALTER TABLE aside_0001.decision SET SCHEMA ops;
ALTER TABLE aside_0001.marts_build SET SCHEMA ops;
ALTER TABLE aside_0001.table_layout SET SCHEMA ops;
ALTER TABLE aside_0001.refused_row SET SCHEMA quarantine;
DROP SCHEMA aside_0001;
"""


def upgrade() -> None:
    op.execute(AGAIN if is_set_aside(revision) else UP)


def downgrade() -> None:
    op.execute(DOWN)
