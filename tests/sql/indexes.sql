-- Every index is there for a reason that it says, and every foreign key can be followed backwards.
BEGIN;
SELECT no_plan();

SELECT has_index(split_part(name, '.', 1), split_part(name, '.', 2), split_part(name, '.', 3), name) FROM unnest(ARRAY[
    'ops.backup.backup_by_base', 'ops.batch.batch_by_dataset', 'ops.batch.batch_by_previous', 'ops.batch.batch_published_once',
    'ops.decision.decision_by_subject', 'ops.marts_build.marts_published_once', 'ops.marts_swap.marts_swap_by_build',
    'ops.schema_change.schema_change_by_name', 'ops.step.step_by_subject', 'ops.verdict.verdict_by_evidence',
    'ops.verdict.verdict_by_subject', 'quarantine.refused_row.refused_row_open'
]) AS name;
SELECT index_is_unique('ops', 'batch', 'batch_published_once', 'one published batch a partition');
SELECT matches(pg_get_indexdef('quarantine.refused_row_open'::regclass), 'WHERE \(state = ''open''', 'closed rows weigh nothing');
SELECT isnt(obj_description(i.indexrelid), NULL, format('%s says why it is there', i.indexrelid::regclass))
FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
WHERE c.relnamespace::regnamespace::text IN ('ops', 'quarantine')
    AND NOT EXISTS (SELECT FROM pg_constraint AS k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u'));
SELECT is_empty(
    $$SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid OR NOT indisready$$, 'no index is broken'
);
SELECT * FROM finish();
ROLLBACK;
