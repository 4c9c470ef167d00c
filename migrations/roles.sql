-- The platform's roles. An administrator of the server runs this once, before `tidegate up` or `tidegate migrate up`:
--     psql -d postgres -f migrations/roles.sql
-- (another owner of the warehouse than `tidegate`: PGOPTIONS='-c tidegate.owner=NAME'). Running it again changes
-- nothing. What the roles may do in the warehouse is granted by migration 0009 and by the contracts. None of them may
-- log in yet: ALTER ROLE readonly LOGIN, and \password readonly.
DO $$
DECLARE
    warehouse_owner text := coalesce(nullif(current_setting('tidegate.owner', true), ''), 'tidegate');
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['app', 'migration', 'readonly', 'analyst', 'admin', 'backup', 'auditor'] LOOP
        IF to_regrole(name) IS NULL THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
        END IF;
        EXECUTE format('ALTER ROLE %I NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION', name);
    END LOOP;

    -- Who changes tables acts as their owner, and the log still knows who it was (session_user).
    EXECUTE format('GRANT %I TO migration', warehouse_owner);
    EXECUTE format('ALTER ROLE migration SET role = %I', warehouse_owner);

    -- A query of the owner that policies would cut short fails, rather than going on with a part of the rows.
    EXECUTE format('ALTER ROLE %I SET row_security = off', warehouse_owner);
    ALTER ROLE migration SET row_security = off;

    -- A dump is whole or it is none: who takes it sees every row, and may write nothing.
    ALTER ROLE backup BYPASSRLS;
    GRANT pg_read_all_data TO backup;

    -- Nobody is `auditor`: what it may read is what pgaudit logs the reading of.
    GRANT app, readonly, analyst, migration TO admin WITH ADMIN OPTION;
    GRANT pg_monitor, pg_signal_backend TO admin;
END
$$;
