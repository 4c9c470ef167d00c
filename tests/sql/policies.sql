-- Row-level security on every table of a dataset with tenants, and on each of its partitions.
BEGIN;
SELECT no_plan();

SELECT isnt_empty(
    $$SELECT FROM pg_class WHERE relnamespace = 'raw'::regnamespace AND relrowsecurity$$, 'there is a dataset with tenants'
);
SELECT ok(c.relforcerowsecurity, format('%s keeps its owner out, too', c.oid::regclass))
FROM pg_class AS c WHERE c.relnamespace::regnamespace::text IN ('raw', 'archive') AND c.relrowsecurity;
SELECT ok(p.relrowsecurity, format('%s is guarded when it is addressed by its own name', p.oid::regclass))
FROM pg_class AS c JOIN pg_inherits ON inhparent = c.oid JOIN pg_class AS p ON p.oid = inhrelid
WHERE c.relnamespace = 'raw'::regnamespace AND c.relrowsecurity;
SELECT policies_are(n.nspname, c.relname, ARRAY['tenant', 'every_tenant'])
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = 'raw' AND c.relrowsecurity;
SELECT is(p.roles, ARRAY[t.tableowner], format('only its owner ever sees all of %s', p.tablename))
FROM pg_policies AS p JOIN pg_tables AS t USING (schemaname, tablename) WHERE p.policyname = 'every_tenant';

-- Tried on the bookings themselves.
SET LOCAL SESSION AUTHORIZATION app;
SELECT is(count(*), 0::bigint, 'app sees no booking before it enters') FROM raw.bookings;
SELECT lives_ok($$SELECT ops.enter('UA')$$);
SELECT isnt_empty('SELECT FROM raw.bookings', 'a tenant''s bookings are there');
SELECT is_empty($$SELECT FROM raw.bookings WHERE carrier <> 'UA'$$, 'and nobody else''s');
RESET SESSION AUTHORIZATION;
SET LOCAL SESSION AUTHORIZATION analyst;
SELECT throws_ok('SELECT passenger_name FROM raw.bookings', '42501', NULL, 'analyst does not read the table');
SELECT is_empty('SELECT FROM masked.bookings WHERE email IS NOT NULL', 'analyst sees no address in the view');
RESET SESSION AUTHORIZATION;
SELECT * FROM finish();
ROLLBACK;
