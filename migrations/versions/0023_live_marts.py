"""pre: marts that follow a stream: which they are, how each is refreshed from the rows that came, and up to which transaction it was.

Micro-batches of several workers become visible in another order than they were stamped. So a mart remembers the
snapshot that it was last refreshed under, and each micro-batch the transaction that wrote it: what that snapshot did
not see has come since, whatever its clock says.
"""

from alembic import op

from tidegate.migrate.aside import is_set_aside

revision = "0023"
down_revision = "0022"

_REFRESH = """
CREATE FUNCTION ops.refresh_mart(wanted regclass) RETURNS bigint LANGUAGE plpgsql AS $body$
DECLARE
    followed ops.stream_mart;
    here bigint := (SELECT system_identifier FROM pg_control_system());
    now_seen pg_snapshot;
    came text[];
    keys text; same text; others text; excluded_others text;
    changed bigint; gone bigint := 0;
BEGIN
    -- Whoever refreshes it already does the work of this call, too, or the next one does.
    SELECT * INTO followed FROM ops.stream_mart WHERE mart = wanted FOR UPDATE SKIP LOCKED;
    IF NOT FOUND OR to_regclass(followed.source) IS NULL THEN
        RETURN NULL;
    END IF;
    -- Before the rows are read: what becomes visible in between is read twice, never left out.
    now_seen := pg_current_snapshot();
    IF followed.seen IS NULL OR followed.server IS DISTINCT FROM here THEN
        -- Made just now, or restored on a server that counts its transactions anew.
        EXECUTE format('DELETE FROM %s', wanted);
        EXECUTE format('INSERT INTO %s %s', wanted, followed.definition);
        GET DIAGNOSTICS changed = ROW_COUNT;
    ELSE
        came := ARRAY(
            SELECT batch_id FROM ops.stream_batch WHERE dataset = followed.dataset
                AND transaction_id >= pg_snapshot_xmin(followed.seen)
                AND NOT pg_visible_in_snapshot(transaction_id, followed.seen)
        );
        IF came = '{}' THEN
            RETURN 0;
        END IF;
        SELECT string_agg(format('%I', attname), ', ') FILTER (WHERE attname = ANY (followed.key_columns)),
            string_agg(format('anew.%1$I = touched.%1$I', attname), ' AND ') FILTER (WHERE attname = ANY (followed.key_columns)),
            string_agg(format('%I', attname), ', ') FILTER (WHERE attname <> ALL (followed.key_columns)),
            string_agg(format('excluded.%I', attname), ', ') FILTER (WHERE attname <> ALL (followed.key_columns))
        INTO keys, same, others, excluded_others
        FROM pg_attribute WHERE attrelid = wanted AND attnum > 0 AND NOT attisdropped;
        -- OFFSET keeps the group's key a parameter of its own SELECT, so that an index finds its rows.
        EXECUTE format(
            'WITH touched AS (%s) INSERT INTO %s AS mart SELECT found.* FROM touched CROSS JOIN LATERAL '
            '(SELECT anew.* FROM (%s) AS anew WHERE %s OFFSET 0) AS found '
            'ON CONFLICT (%s) DO UPDATE SET (%s) = ROW (%s) WHERE mart IS DISTINCT FROM excluded',
            followed.touched, wanted, followed.definition, same, keys, others, excluded_others
        ) USING came;
        GET DIAGNOSTICS changed = ROW_COUNT;
        EXECUTE format('DELETE FROM %s AS mart WHERE %s', wanted, followed.outlived);
        GET DIAGNOSTICS gone = ROW_COUNT;
    END IF;
    UPDATE ops.stream_mart SET seen = now_seen, server = here, refreshed_at = clock_timestamp(), trouble = NULL
    WHERE mart = wanted;
    RETURN changed + gone;
END
$body$;
COMMENT ON FUNCTION ops.refresh_mart IS
    'Brings a mart that follows a stream up to date; returns the rows that changed, NULL where somebody else is at it or there is no stream yet.';
REVOKE EXECUTE ON FUNCTION ops.refresh_mart FROM public;
"""

_BATCH = """
ALTER TABLE ops.stream_batch ADD COLUMN transaction_id xid8;
ALTER TABLE ops.stream_batch ALTER COLUMN transaction_id SET DEFAULT pg_current_xact_id();
COMMENT ON COLUMN ops.stream_batch.transaction_id IS 'Transaction that wrote it: who knows a snapshot knows whether it was seen. Empty for those before 0023.';
-- No row has a transaction yet: the index is empty, and made at once.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX stream_batch_by_transaction ON ops.stream_batch (dataset, transaction_id) WHERE transaction_id IS NOT NULL;
COMMENT ON INDEX ops.stream_batch_by_transaction IS 'The micro-batches that became visible since a live mart was refreshed.';
"""

UP = f"""{_BATCH}
CREATE TABLE ops.stream_mart (
    mart regclass PRIMARY KEY,
    dataset text NOT NULL,
    source text NOT NULL,
    key_columns text[] NOT NULL CHECK (key_columns <> '{{}}'),
    definition text NOT NULL,
    touched text NOT NULL,
    outlived text NOT NULL,
    seen pg_snapshot,
    server bigint,
    made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    refreshed_at timestamptz,
    trouble text
);
COMMENT ON TABLE ops.stream_mart IS 'Marts that follow a stream: dbt writes a row when it makes one, workers refresh it.';
COMMENT ON COLUMN ops.stream_mart.mart IS 'The table, whatever schema it has been moved to; each build of the marts has its own.';
COMMENT ON COLUMN ops.stream_mart.dataset IS 'The stream that it follows.';
COMMENT ON COLUMN ops.stream_mart.source IS 'Table of the stream''s rows; where there is none yet, the mart is empty.';
COMMENT ON COLUMN ops.stream_mart.key_columns IS 'Columns of its grain: one row of the mart is one group of the stream''s rows.';
COMMENT ON COLUMN ops.stream_mart.definition IS 'The model''s SELECT of the whole mart.';
COMMENT ON COLUMN ops.stream_mart.touched IS 'SELECT of the keys whose rows came with the micro-batches $1.';
COMMENT ON COLUMN ops.stream_mart.outlived IS 'Condition for a row of the mart that its window has left behind.';
COMMENT ON COLUMN ops.stream_mart.seen IS 'The snapshot of the last refresh: micro-batches that it does not see have come since. Empty until the first.';
COMMENT ON COLUMN ops.stream_mart.server IS 'Identity of the server that the snapshot is of.';
COMMENT ON COLUMN ops.stream_mart.made_at IS 'When dbt made it.';
COMMENT ON COLUMN ops.stream_mart.refreshed_at IS 'When it last followed a micro-batch, or was made.';
COMMENT ON COLUMN ops.stream_mart.trouble IS 'Why it could not be refreshed; empty while it follows.';
{_REFRESH}"""

DOWN = """
CREATE SCHEMA aside_0023;
DROP FUNCTION ops.refresh_mart;
ALTER TABLE ops.stream_mart SET SCHEMA aside_0023;
CREATE TABLE aside_0023.written AS SELECT batch_id, transaction_id FROM ops.stream_batch;
ALTER TABLE ops.stream_batch DROP COLUMN transaction_id;
"""

# What came meanwhile has no transaction: a mart whose stream went on is made anew by its next refresh.
AGAIN = f"""{_BATCH}
UPDATE ops.stream_batch AS batch SET transaction_id = written.transaction_id FROM aside_0023.written WHERE written.batch_id = batch.batch_id;
ALTER TABLE aside_0023.stream_mart SET SCHEMA ops;
UPDATE ops.stream_mart AS mart SET seen = NULL WHERE EXISTS (
    SELECT FROM ops.stream_batch AS batch WHERE batch.dataset = mart.dataset
        AND NOT EXISTS (SELECT FROM aside_0023.written WHERE written.batch_id = batch.batch_id)
);
DROP TABLE aside_0023.written;
DROP SCHEMA aside_0023;
{_REFRESH}"""


def upgrade() -> None:
    op.execute(AGAIN if is_set_aside(revision) else UP)


def downgrade() -> None:
    op.execute(DOWN)
