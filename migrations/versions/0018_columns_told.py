"""pre: every column of the ledger says what it is.

The comments are what docs/reference/ledger.md and a client's own help show. They take no lock that a reader notices.
"""

from alembic import op

revision = "0018"
down_revision = "0017"

UP = """
COMMENT ON TABLE ops.migration IS 'The revision that the warehouse is at; one row.';
COMMENT ON COLUMN ops.migration.version_num IS 'The last migration that was applied.';

COMMENT ON COLUMN ops.audit.audit_id IS 'Number of the line; ops.audit_seal has its place in the chain.';
COMMENT ON COLUMN ops.audit.occurred_at IS 'When it was done.';
COMMENT ON COLUMN ops.audit.role_name IS 'Whom the session acted as.';
COMMENT ON COLUMN ops.audit.application_name IS 'What the program called itself.';
COMMENT ON COLUMN ops.audit.client_address IS 'Address that it came from; empty for a socket of the machine itself.';
COMMENT ON COLUMN ops.audit.transaction_id IS 'Transaction that did it: what was rolled back has no line.';
COMMENT ON COLUMN ops.audit.action IS 'What was done.';
COMMENT ON COLUMN ops.audit.object IS 'Table, or other object, that it was done to.';
COMMENT ON COLUMN ops.audit.detail IS 'Command, columns, batch or reason; never a value.';
COMMENT ON COLUMN ops.audit_seal.place IS 'Place in the chain, without gaps.';
COMMENT ON COLUMN ops.audit_seal.audit_id IS 'The line that stands there.';
COMMENT ON COLUMN ops.audit_seal.sha256 IS 'Hash over the line and the hash before.';

COMMENT ON COLUMN ops.backup.backup_id IS 'Name of the backup: when it began, and its kind.';
COMMENT ON COLUMN ops.backup.kind IS 'Full, or incremental: what has changed since the one it is based on.';
COMMENT ON COLUMN ops.backup.tool IS 'Program that took it.';
COMMENT ON COLUMN ops.backup.cluster IS 'Identity of the server that it was taken from.';
COMMENT ON COLUMN ops.backup.timeline IS 'Timeline of that server; a restore or a failover begins another one.';
COMMENT ON COLUMN ops.backup.start_lsn IS 'Where in the WAL it begins.';
COMMENT ON COLUMN ops.backup.stop_lsn IS 'Where in the WAL it is consistent.';
COMMENT ON COLUMN ops.backup.started_at IS 'When it began.';
COMMENT ON COLUMN ops.backup.ended_at IS 'When it ended.';
COMMENT ON COLUMN ops.backup.bytes IS 'What it occupies.';
COMMENT ON COLUMN ops.backup.based_on IS 'Backup without which an incremental one is nothing.';
COMMENT ON COLUMN ops.backup.verified_at IS 'When all of it was last found whole; empty where never, or damaged since.';
COMMENT ON COLUMN ops.backup.removed_at IS 'When it was let go of.';

COMMENT ON COLUMN ops.batch.batch_id IS 'Derived from dataset, contract version, partition and content: the same delivery is the same batch.';
COMMENT ON COLUMN ops.batch.dataset IS 'Name of the contract.';
COMMENT ON COLUMN ops.batch.partition IS 'Partition that was delivered; all for a dataset that is delivered whole.';
COMMENT ON COLUMN ops.batch.state IS 'How far it has come, and whether readers see it.';
COMMENT ON COLUMN ops.batch.contract_version IS 'Version of the contract that its rows were held against.';
COMMENT ON COLUMN ops.batch.source_sha256 IS 'Hash of what was delivered.';
COMMENT ON COLUMN ops.batch.landing_url IS 'Where its accepted rows lie as Parquet.';
COMMENT ON COLUMN ops.batch.delivered_count IS 'Rows that were delivered.';
COMMENT ON COLUMN ops.batch.accepted_count IS 'Rows that the contract accepted.';
COMMENT ON COLUMN ops.batch.refused_count IS 'Rows that it refused, which are in quarantine.';
COMMENT ON COLUMN ops.batch.published_schema IS 'Schema that it is published in.';
COMMENT ON COLUMN ops.batch.held_reason IS 'Why a gate holds it.';
COMMENT ON COLUMN ops.batch.previous_batch_id IS 'Batch that it replaced, and that an undo goes back to.';
COMMENT ON COLUMN ops.batch.created_at IS 'When it landed.';
COMMENT ON COLUMN ops.batch.published_at IS 'When it was published.';

COMMENT ON COLUMN ops.decision.decision_id IS 'Number of the decision.';
COMMENT ON COLUMN ops.decision.subject IS 'Batch or build that it is about.';
COMMENT ON COLUMN ops.decision.action IS 'What was decided.';
COMMENT ON COLUMN ops.decision.decided_by IS 'Who decided, by the name they gave.';
COMMENT ON COLUMN ops.decision.why IS 'Their reason.';
COMMENT ON COLUMN ops.decision.decided_at IS 'When.';

COMMENT ON COLUMN ops.encryption_key.key_id IS 'Name of the key, which each value that it seals begins with.';
COMMENT ON COLUMN ops.encryption_key.made_at IS 'When it first sealed something here.';

COMMENT ON COLUMN ops.erasure.erasure_id IS 'Number of the request; its file in HOME/erasures has it, too.';
COMMENT ON COLUMN ops.erasure.columns IS 'Columns by which the person was named.';
COMMENT ON COLUMN ops.erasure.key_id IS 'Key that the digests are made with.';
COMMENT ON COLUMN ops.erasure.asked_by IS 'Who carried it out.';
COMMENT ON COLUMN ops.erasure.why IS 'Why they did.';
COMMENT ON COLUMN ops.erasure.row_counts IS 'Rows that were erased, by place.';
COMMENT ON COLUMN ops.erasure.began_at IS 'When it began.';
COMMENT ON COLUMN ops.erasure.finished_at IS 'When nothing was left; empty where it was cut short.';

COMMENT ON COLUMN ops.evidence.evidence_sha256 IS 'Hash of the file.';
COMMENT ON COLUMN ops.evidence.kind IS 'What kind of measurement it holds.';
COMMENT ON COLUMN ops.evidence.path IS 'Where it was written.';
COMMENT ON COLUMN ops.evidence.figures IS 'The figures that verdicts rest on.';
COMMENT ON COLUMN ops.evidence.taken_at IS 'When it was taken.';

COMMENT ON COLUMN ops.fence.subject IS 'What is worked on.';
COMMENT ON COLUMN ops.fence.token IS 'Highest token that was given out for it.';
COMMENT ON COLUMN ops.fence.holder IS 'Worker that has it.';
COMMENT ON COLUMN ops.fence.taken_at IS 'When they took it.';

COMMENT ON COLUMN ops.marts_build.build_id IS 'Derived from the batches and the code: the same inputs are the same build.';
COMMENT ON COLUMN ops.marts_build.state IS 'How far it has come, and whether readers see it.';
COMMENT ON COLUMN ops.marts_build.inputs IS 'Batches that it was built from, by dataset and partition.';
COMMENT ON COLUMN ops.marts_build.held_reason IS 'Why a gate holds it.';
COMMENT ON COLUMN ops.marts_build.built_at IS 'When it was begun.';
COMMENT ON COLUMN ops.marts_build.published_at IS 'When it was last published.';
COMMENT ON COLUMN ops.marts_swap.swap_id IS 'Number of the swap; readers see the build of the highest that they see.';
COMMENT ON COLUMN ops.marts_swap.build_id IS 'Build that is shown from then on.';
COMMENT ON COLUMN ops.marts_swap.swapped_at IS 'When.';

COMMENT ON COLUMN ops.schema_change.schema_change_id IS 'Number of the change, in order.';
COMMENT ON COLUMN ops.schema_change.door IS 'Whether a migration made it, or a contract asked for it.';
COMMENT ON COLUMN ops.schema_change.name IS 'Which migration, or dataset and version.';
COMMENT ON COLUMN ops.schema_change.direction IS 'Applied, or taken back.';
COMMENT ON COLUMN ops.schema_change.statements IS 'The SQL that ran.';
COMMENT ON COLUMN ops.schema_change.seconds IS 'How long it took.';
COMMENT ON COLUMN ops.schema_change.changed_by IS 'Login that ran it.';
COMMENT ON COLUMN ops.schema_change.changed_at IS 'When.';

COMMENT ON COLUMN ops.step.step_id IS 'Number of the step, in the order in which steps ended.';
COMMENT ON COLUMN ops.step.subject IS 'Batch, build or other work that it was a step of.';
COMMENT ON COLUMN ops.step.step IS 'What was done.';
COMMENT ON COLUMN ops.step.started_at IS 'When it began.';
COMMENT ON COLUMN ops.step.seconds IS 'How long it took.';
COMMENT ON COLUMN ops.step.row_count IS 'Rows that it handled; empty where it handled none.';
COMMENT ON COLUMN ops.step.note IS 'What else it left: a decision, the digest of its inputs.';

COMMENT ON COLUMN ops.table_layout.dataset IS 'Dataset that the table is of.';
COMMENT ON COLUMN ops.table_layout.contract_version IS 'Version that it was last made or evolved for.';
COMMENT ON COLUMN ops.table_layout.columns IS 'Its columns, with types, and which are required.';
COMMENT ON COLUMN ops.table_layout.key_columns IS 'Its key, and what a partition is.';
COMMENT ON COLUMN ops.table_layout.changed_at IS 'When it was last changed.';

COMMENT ON COLUMN ops.tenant_login.login IS 'The login.';
COMMENT ON COLUMN ops.tenant_login.tenant IS 'Whose rows it sees.';
COMMENT ON COLUMN ops.tenant_login.bound_at IS 'Since when.';

COMMENT ON COLUMN ops.verdict.verdict_id IS 'Number of the verdict; of two on one rule the higher one counts.';
COMMENT ON COLUMN ops.verdict.subject IS 'Batch, build or backup that was judged.';
COMMENT ON COLUMN ops.verdict.dataset IS 'Dataset that it is about; marts or warehouse where it is no one dataset.';
COMMENT ON COLUMN ops.verdict.partition IS 'Partition that it is about.';
COMMENT ON COLUMN ops.verdict.gate IS 'Gate that judged.';
COMMENT ON COLUMN ops.verdict.rule IS 'Rule that was held against it.';
COMMENT ON COLUMN ops.verdict.verdict IS 'The decision.';
COMMENT ON COLUMN ops.verdict.value IS 'What was measured.';
COMMENT ON COLUMN ops.verdict.target IS 'What was expected.';
COMMENT ON COLUMN ops.verdict.target_source IS 'File and line that say so.';
COMMENT ON COLUMN ops.verdict.evidence_sha256 IS 'Evidence that it rests on.';
COMMENT ON COLUMN ops.verdict.rule_set_version IS 'Version of the contract, suite or program that the rule is of.';
COMMENT ON COLUMN ops.verdict.decided_at IS 'When.';

COMMENT ON COLUMN quarantine.refused_row.refused_row_id IS 'Number of the row, by which a repaired sheet names it.';
COMMENT ON COLUMN quarantine.refused_row.batch_id IS 'Batch that it was delivered with.';
COMMENT ON COLUMN quarantine.refused_row.dataset IS 'Dataset of that batch.';
COMMENT ON COLUMN quarantine.refused_row.partition IS 'Its partition.';
COMMENT ON COLUMN quarantine.refused_row.contract_version IS 'Version of the contract that refused it.';
COMMENT ON COLUMN quarantine.refused_row.source_file IS 'File that it stood in, by the sender''s name.';
COMMENT ON COLUMN quarantine.refused_row.line IS 'Its line there, the first one being 1.';
COMMENT ON COLUMN quarantine.refused_row.column_name IS 'Column at fault; empty where it is the whole line.';
COMMENT ON COLUMN quarantine.refused_row.value IS 'The refused value as delivered; sealed where the dataset has confidential columns.';
COMMENT ON COLUMN quarantine.refused_row.rule IS 'First rule that it broke.';
COMMENT ON COLUMN quarantine.refused_row.expected IS 'What that rule expects, in words.';
COMMENT ON COLUMN quarantine.refused_row.record IS 'The whole record as delivered; sealed alike.';
COMMENT ON COLUMN quarantine.refused_row.state IS 'Whether it waits, was replayed, or was dismissed.';
COMMENT ON COLUMN quarantine.refused_row.replay_batch_id IS 'Batch that took it in, repaired.';
COMMENT ON COLUMN quarantine.refused_row.refused_at IS 'When it was refused.';
COMMENT ON COLUMN quarantine.refused_row.closed_at IS 'When it was replayed or dismissed.';
"""

#: The same, each said of nothing: what was not said before.
DOWN = "\n".join(f"{line.partition(' IS ')[0]} IS NULL;" for line in UP.splitlines() if line)

AGAIN = UP


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
