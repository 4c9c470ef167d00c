-- What is done to classified rows, and to the schema, leaves a line; no line is ever changed.
BEGIN;
SELECT no_plan();

SELECT has_trigger('quarantine', 'refused_row', name, 'refused rows are watched: ' || name)
FROM unnest(ARRAY['audit_insert', 'audit_update', 'audit_delete', 'audit_truncate']) AS name;
SELECT ok(
    EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = c.oid AND t.tgenabled <> 'D' AND t.tgname LIKE 'audit_%'),
    format('%s is watched', c.oid::regclass)
)
FROM pg_class AS c WHERE c.relnamespace = 'raw'::regnamespace AND c.relrowsecurity;
SELECT has_trigger('ops', 'audit', 'append_only', 'lines are only added');
SELECT has_trigger('ops', 'audit_seal', 'append_only', 'so is the chain');
SELECT trigger_is('ops', 'audit', 'chain', 'ops', 'audit_chain', 'each line gets its place in the chain');
SELECT is(count(*), 2::bigint, 'commands and drops are recorded, whoever gives them')
FROM pg_event_trigger WHERE evtname IN ('audit_ddl', 'audit_drop') AND evtenabled = 'A';

-- Tried.
CREATE TEMP TABLE seen AS SELECT coalesce(max(audit_id), 0) AS last FROM ops.audit;
INSERT INTO quarantine.refused_row (batch_id, dataset, partition, contract_version, source_file, line, column_name, rule,
    expected, record)
VALUES ('pgtap', 'pgtap', 'all', '1.0.0', 'f.csv', 1, 'n', 'required', 'a value', '{}');
SELECT is(row_count, 1::bigint, 'a refused row leaves a line, with its count')
FROM ops.audit, seen WHERE audit_id > last AND action = 'insert' AND object = 'quarantine.refused_row';
COMMENT ON TABLE ops.decision IS 'tried';
SELECT isnt_empty(
    $$SELECT FROM ops.audit, seen WHERE audit_id > last AND action = 'ddl' AND object = 'ops.decision'$$,
    'a command leaves a line'
);
SELECT throws_ok($$UPDATE ops.audit SET login = 'nobody'$$, '42501', NULL, 'no line is changed');
SELECT throws_ok('DELETE FROM ops.audit', '42501', NULL, 'no line is removed');
SET CONSTRAINTS ALL IMMEDIATE;
SELECT throws_ok('TRUNCATE ops.audit', '42501', NULL, 'nor all of them');
SELECT throws_ok('DELETE FROM ops.audit_seal', '42501', NULL, 'nor is the chain');
SELECT * FROM finish();
ROLLBACK;
