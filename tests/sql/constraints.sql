-- What the ledger refuses, tried.
BEGIN;
SELECT no_plan();

CREATE FUNCTION pg_temp.batch(id text, state text, delivered integer, accepted integer) RETURNS text LANGUAGE sql AS $$
    SELECT format('INSERT INTO ops.batch (batch_id, dataset, partition, state, contract_version, source_name, source_sha256,
        landing_url, delivered_count, accepted_count, refused_count, published_schema)
        VALUES (%L, ''pgtap'', ''all'', %L, ''1.0.0'', ''f.csv'', ''0'', ''/f'', %s, %s, 0, ''raw'')', id, state, delivered, accepted)
$$;
SELECT lives_ok(pg_temp.batch('one', 'published', 3, 3), 'a batch is written down');
SELECT throws_ok(pg_temp.batch('one', 'landed', 3, 3), '23505', NULL, 'a batch is written down once');
SELECT throws_ok(pg_temp.batch('two', 'published', 3, 3), '23505', NULL, 'a partition has one published batch');
SELECT throws_ok(pg_temp.batch('three', 'lost', 3, 3), '23514', NULL, 'a batch is in no state that nobody knows');
SELECT throws_ok(pg_temp.batch('four', 'landed', 3, 2), '23514', NULL, 'delivered = accepted + refused');
SELECT throws_ok(
    $$UPDATE ops.batch SET previous_batch_id = 'nobody' WHERE batch_id = 'one'$$, '23503', NULL,
    'a batch replaces one that there is'
);
SELECT throws_ok(
    $$INSERT INTO ops.verdict (subject, dataset, gate, rule, verdict, value, target, target_source, rule_set_version)
      VALUES ('one', 'pgtap', 'g', 'r', 'PERHAPS', '1', '1', 'here', '1')$$, '23514', NULL,
    'a verdict is PASS, WARN or FAIL'
);
SELECT throws_ok(
    $$INSERT INTO ops.verdict (subject, dataset, gate, rule, verdict, value, target, target_source, rule_set_version, evidence_sha256)
      VALUES ('one', 'pgtap', 'g', 'r', 'PASS', '1', '1', 'here', '1', 'none')$$, '23503', NULL,
    'a verdict rests on evidence that there is'
);
SELECT throws_ok(
    $$INSERT INTO ops.backup (backup_id, kind, tool, cluster, timeline, start_lsn, stop_lsn, started_at, ended_at, bytes)
      VALUES ('b', 'incremental', 't', '1', 1, '0/1', '0/2', now(), now(), 1)$$, '23514', NULL,
    'an incremental backup says what it is based on'
);
SELECT throws_ok($$SELECT '\x00'::bytea::ops.sealed$$, '23514', NULL, 'plain bytes are no sealed value');
SELECT fk_ok('ops', 'verdict', 'evidence_sha256', 'ops', 'evidence', 'evidence_sha256');
SELECT fk_ok('ops', 'batch', 'previous_batch_id', 'ops', 'batch', 'batch_id');
SELECT fk_ok('ops', 'marts_swap', 'build_id', 'ops', 'marts_build', 'build_id');
SELECT fk_ok('ops', 'backup', 'based_on', 'ops', 'backup', 'backup_id');
SELECT is_empty(
    'SELECT conname FROM pg_constraint WHERE NOT convalidated', 'every constraint holds for the rows of before, too'
);
SELECT * FROM finish();
ROLLBACK;
