"""pre: deliveries: what a team's run has done, measured, was allowed, and released.

Verdicts and evidence stand where those of batches do (ops.verdict, ops.evidence): a delivery is a subject like any other.
"""

from alembic import op

from tidegate.migrate.aside import is_set_aside

revision = "0019"
down_revision = "0018"

UP = """
CREATE TABLE ops.delivery (
    delivery_id text PRIMARY KEY,
    team text NOT NULL,
    strategy text NOT NULL,
    strategy_sha256 text NOT NULL,
    code_version text NOT NULL,
    state text NOT NULL CHECK (state IN ('running', 'waiting', 'paused', 'blocked', 'failed', 'success')),
    wave text NOT NULL,
    reason text,
    started_by text NOT NULL CHECK (started_by <> ''),
    dag_run_id text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    CHECK ((finished_at IS NOT NULL) = (state IN ('failed', 'success')))
);
COMMENT ON TABLE ops.delivery IS 'One row per run of a team, from its strategy to its release.';
COMMENT ON COLUMN ops.delivery.delivery_id IS 'The DAG run that began it; one that goes on after a stop keeps it.';
COMMENT ON COLUMN ops.delivery.team IS 'The team, by the name of its file in teams/.';
COMMENT ON COLUMN ops.delivery.strategy IS 'The strategy document.';
COMMENT ON COLUMN ops.delivery.strategy_sha256 IS 'Hash of the document that targets were read from.';
COMMENT ON COLUMN ops.delivery.code_version IS 'Commit that is delivered.';
COMMENT ON COLUMN ops.delivery.state IS 'Whether it goes on, waits for a person, or has ended.';
COMMENT ON COLUMN ops.delivery.wave IS 'Wave that it is in.';
COMMENT ON COLUMN ops.delivery.reason IS 'What it waits for, or why it is blocked or failed.';
COMMENT ON COLUMN ops.delivery.started_by IS 'Who started it.';
COMMENT ON COLUMN ops.delivery.dag_run_id IS 'Airflow''s run that works on it now.';
COMMENT ON COLUMN ops.delivery.started_at IS 'When it began.';
COMMENT ON COLUMN ops.delivery.finished_at IS 'When it ended; empty while it may go on.';
CREATE UNIQUE INDEX delivery_one_at_a_time ON ops.delivery (team) WHERE finished_at IS NULL;
COMMENT ON INDEX ops.delivery_one_at_a_time IS 'A team works on one delivery at a time.';

CREATE TABLE ops.delivery_work (
    delivery_id text NOT NULL REFERENCES ops.delivery (delivery_id),
    wave text NOT NULL,
    role text NOT NULL,
    attempt bigint NOT NULL CHECK (attempt > 0),
    state text NOT NULL CHECK (state IN ('running', 'done', 'failed', 'skipped')),
    artifacts jsonb NOT NULL DEFAULT '{}',
    reason text,
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    PRIMARY KEY (delivery_id, wave, role, attempt)
);
COMMENT ON TABLE ops.delivery_work IS 'One row per role, wave and attempt: what was done, and what came of it.';
COMMENT ON COLUMN ops.delivery_work.delivery_id IS 'Delivery that it is a part of.';
COMMENT ON COLUMN ops.delivery_work.wave IS 'Wave, by its number.';
COMMENT ON COLUMN ops.delivery_work.role IS 'Role, by its code.';
COMMENT ON COLUMN ops.delivery_work.attempt IS 'Which attempt it is; more than one in the bug-fix loop only.';
COMMENT ON COLUMN ops.delivery_work.state IS 'How it went.';
COMMENT ON COLUMN ops.delivery_work.artifacts IS 'Files that were made, by path, each with its hash.';
COMMENT ON COLUMN ops.delivery_work.reason IS 'Why it failed or was skipped.';
COMMENT ON COLUMN ops.delivery_work.started_at IS 'When it began.';
COMMENT ON COLUMN ops.delivery_work.finished_at IS 'When it ended.';

CREATE TABLE ops.delivery_evidence (
    delivery_id text NOT NULL REFERENCES ops.delivery (delivery_id),
    evidence_id bigint GENERATED ALWAYS AS IDENTITY,
    wave text NOT NULL,
    role text NOT NULL,
    attempt bigint NOT NULL CHECK (attempt > 0),
    probe text NOT NULL,
    path text NOT NULL,
    evidence_sha256 text REFERENCES ops.evidence (evidence_sha256),
    reason text,
    taken_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (delivery_id, evidence_id),
    CHECK ((evidence_sha256 IS NULL) = (reason IS NOT NULL))
);
COMMENT ON TABLE ops.delivery_evidence IS 'Which evidence was taken for which delivery: a gate reads no other.';
COMMENT ON COLUMN ops.delivery_evidence.delivery_id IS 'Delivery that it was taken for.';
COMMENT ON COLUMN ops.delivery_evidence.evidence_id IS 'Number; of two of one path the higher one counts.';
COMMENT ON COLUMN ops.delivery_evidence.wave IS 'Wave that it was taken in.';
COMMENT ON COLUMN ops.delivery_evidence.role IS 'Role that answers for it.';
COMMENT ON COLUMN ops.delivery_evidence.attempt IS 'Attempt that it was taken in.';
COMMENT ON COLUMN ops.delivery_evidence.probe IS 'Probe that took it.';
COMMENT ON COLUMN ops.delivery_evidence.path IS 'File, from the folder of evidence on; empty where the probe could not run.';
COMMENT ON COLUMN ops.delivery_evidence.evidence_sha256 IS 'Hash of the file; empty where the probe could not run.';
COMMENT ON COLUMN ops.delivery_evidence.reason IS 'Why the probe could not run.';
COMMENT ON COLUMN ops.delivery_evidence.taken_at IS 'When it was taken.';
CREATE INDEX delivery_evidence_by_evidence ON ops.delivery_evidence (evidence_sha256);
COMMENT ON INDEX ops.delivery_evidence_by_evidence IS 'For its foreign key: which deliveries rest on a piece of evidence.';

CREATE TABLE ops.approval (
    approval_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delivery_id text NOT NULL REFERENCES ops.delivery (delivery_id),
    kind text NOT NULL CHECK (kind IN ('cost', 'deployment', 'merge', 'waiver', 'unmet', 'topic')),
    subject text NOT NULL,
    sha256 text NOT NULL,
    decision text NOT NULL CHECK (decision IN ('approve', 'reject')),
    decided_by text NOT NULL CHECK (decided_by <> ''),
    why text NOT NULL CHECK (why <> ''),
    decided_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE ops.approval IS 'What people decided about a delivery, each about exactly what they were shown.';
COMMENT ON COLUMN ops.approval.approval_id IS 'Number; of two on one subject the higher one counts.';
COMMENT ON COLUMN ops.approval.delivery_id IS 'Delivery that it is about.';
COMMENT ON COLUMN ops.approval.kind IS 'What was asked; a waiver lets one rule of a gate pass.';
COMMENT ON COLUMN ops.approval.subject IS 'Document, or rule of a gate, that was decided about.';
COMMENT ON COLUMN ops.approval.sha256 IS 'Hash of what was shown: for anything else the decision is void.';
COMMENT ON COLUMN ops.approval.decision IS 'What was decided.';
COMMENT ON COLUMN ops.approval.decided_by IS 'Who decided, by the name they gave.';
COMMENT ON COLUMN ops.approval.why IS 'Their reason.';
COMMENT ON COLUMN ops.approval.decided_at IS 'When.';
CREATE INDEX approval_by_delivery ON ops.approval (delivery_id);
COMMENT ON INDEX ops.approval_by_delivery IS 'For its foreign key: what was decided about a delivery, in order.';

CREATE TABLE ops.release (
    version text PRIMARY KEY,
    delivery_id text NOT NULL REFERENCES ops.delivery (delivery_id),
    state text NOT NULL CHECK (state IN ('begun', 'released', 'rolled back')),
    code_version text NOT NULL,
    from_revision text NOT NULL,
    to_revision text NOT NULL,
    backup_id text,
    build_id text,
    reason text,
    begun_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz
);
COMMENT ON TABLE ops.release IS 'One row per release: what went into the warehouse, what it can go back to, whether it did.';
COMMENT ON COLUMN ops.release.version IS 'Semantic version of the schema.';
COMMENT ON COLUMN ops.release.delivery_id IS 'Delivery that released it.';
COMMENT ON COLUMN ops.release.state IS 'How far it has come, and whether it stands.';
COMMENT ON COLUMN ops.release.code_version IS 'Commit that was released.';
COMMENT ON COLUMN ops.release.from_revision IS 'Migration that the warehouse was at.';
COMMENT ON COLUMN ops.release.to_revision IS 'Migration that it was taken to.';
COMMENT ON COLUMN ops.release.backup_id IS 'Backup that was taken before.';
COMMENT ON COLUMN ops.release.build_id IS 'Set of marts that readers saw before.';
COMMENT ON COLUMN ops.release.reason IS 'Why it was rolled back.';
COMMENT ON COLUMN ops.release.begun_at IS 'When it began.';
COMMENT ON COLUMN ops.release.ended_at IS 'When it stood, or was rolled back.';
CREATE INDEX release_by_delivery ON ops.release (delivery_id);
COMMENT ON INDEX ops.release_by_delivery IS 'For its foreign key: what a delivery released.';
"""

_TABLES = ("delivery_work", "delivery_evidence", "approval", "release", "delivery")

DOWN = "\n".join(
    ["CREATE SCHEMA aside_0019;", *(f"ALTER TABLE ops.{table} SET SCHEMA aside_0019;" for table in _TABLES)]
)

AGAIN = "\n".join(
    [*(f"ALTER TABLE aside_0019.{table} SET SCHEMA ops;" for table in _TABLES), "DROP SCHEMA aside_0019;"]
)


def upgrade() -> None:
    op.execute(AGAIN if is_set_aside(revision) else UP)


def downgrade() -> None:
    op.execute(DOWN)
