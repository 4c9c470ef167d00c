-- Who a session works for: the functions that policies ask; and the one that marts follow streams by.
BEGIN;
SELECT no_plan();

SELECT has_function('ops', 'tenant', ARRAY[]::text[]);
SELECT has_function('ops', 'enter', ARRAY['text']);
SELECT has_function('ops', 'enter_all', ARRAY[]::text[]);
SELECT has_function('ops', 'sees_all', ARRAY[]::text[]);
SELECT is_definer('ops', 'tenant', ARRAY[]::text[], 'a tenant is looked up with the owner''s rights');
SELECT volatility_is('ops', 'tenant', ARRAY[]::text[], 'stable');
SELECT function_privs_are('ops', 'enter', ARRAY['text'], 'readonly', ARRAY[]::text[], 'readonly chooses no tenant');
SELECT function_privs_are('ops', 'enter', ARRAY['text'], 'analyst', ARRAY[]::text[], 'nor does analyst');
SELECT function_privs_are('ops', 'enter_all', ARRAY[]::text[], 'app', ARRAY[]::text[], 'app does not see all tenants');

SELECT function_privs_are('ops', 'refresh_mart', ARRAY['regclass'], 'readonly', ARRAY[]::text[], 'readonly refreshes no mart');
SELECT is(ops.refresh_mart('ops.batch'::regclass), NULL, 'what follows no stream is left alone');

SELECT is(ops.tenant(), NULL, 'nobody is served without a word');
SELECT is(ops.sees_all(), false, 'nor is everybody');
SELECT lives_ok($$SELECT set_config('tidegate.tenant', 'UA', false)$$, 'anybody may write the setting');
SELECT is(ops.tenant(), NULL, 'a setting that a client wrote itself, or left behind, says nothing');
SELECT lives_ok($$SELECT ops.enter('UA')$$, 'who may serve tenants enters one');
SELECT is(ops.tenant(), 'UA', 'and serves it');
SELECT is(
    ops.key_of(('\xf5'::bytea || '\x02'::bytea || 'k7'::bytea || decode(repeat('00', 40), 'hex'))::ops.sealed), 'k7',
    'a sealed value names its key'
);
SELECT * FROM finish();
ROLLBACK;
