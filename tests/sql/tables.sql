-- The ledger's tables and columns: what programs of other versions, and people with psql, count on.
BEGIN;
SELECT no_plan();

SELECT has_schema(name) FROM unnest(ARRAY['ops', 'quarantine', 'raw', 'core', 'staging', 'archive', 'masked']) AS name;
SELECT has_table('ops', name, 'ops.' || name) FROM unnest(ARRAY[
    'backup', 'batch', 'decision', 'encryption_key', 'evidence', 'marts_build', 'marts_swap', 'migration', 'schema_change',
    'step', 'table_layout', 'tenant_login', 'verdict'
]) AS name;
SELECT has_table('quarantine', 'refused_row', 'quarantine.refused_row');
SELECT columns_are('ops', 'batch', ARRAY[
    'batch_id', 'dataset', 'partition', 'state', 'contract_version', 'source_name', 'source_sha256', 'landing_url',
    'delivered_count', 'accepted_count', 'refused_count', 'published_schema', 'previous_batch_id', 'held_reason',
    'created_at', 'published_at'
]);
SELECT col_type_is('ops', 'batch', 'created_at', 'timestamp with time zone', 'moments know their zone');
SELECT col_not_null('ops', 'verdict', name, 'a verdict has its ' || name) FROM unnest(ARRAY['gate', 'rule', 'verdict', 'value', 'target', 'target_source']) AS name;

-- Every table of ours has a key, and says what it is for.
SELECT has_pk(n.nspname, c.relname, format('%I.%I has a key', n.nspname, c.relname))
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname IN ('ops', 'quarantine') AND c.relkind = 'r';
SELECT isnt(obj_description(c.oid), NULL, format('%I.%I says what it is for', n.nspname, c.relname))
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname IN ('ops', 'quarantine') AND c.relkind = 'r' AND c.relname <> 'migration';
SELECT is_empty(
    $$SELECT a.attrelid::regclass, a.attname FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
      WHERE c.relnamespace::regnamespace::text IN ('ops', 'quarantine', 'raw', 'core') AND c.relkind IN ('r', 'p')
      AND a.atttypid = 'timestamp'::regtype AND NOT a.attisdropped$$,
    'no moment without its time zone'
);
SELECT * FROM finish();
ROLLBACK;
