-- Every change of the schema is recorded in ops.audit, whoever makes it. Only a superuser may make triggers on commands:
-- `tidegate up` runs this on the embedded server, an administrator on a server of one's own, in the warehouse's database,
-- after migration 0012:
--     psql -d warehouse -f migrations/audit.sql
-- Running it again changes nothing. Roles, databases and tablespaces are the cluster's: commands on them fire no trigger.
DO $$
DECLARE
    recorder text;
BEGIN
    -- A way down (`tidegate migrate down`) has set it aside, where it does nothing.
    IF to_regproc('ops.audit_ddl') IS NULL THEN
        RETURN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_event_trigger WHERE evtname = 'audit_ddl') THEN
        CREATE EVENT TRIGGER audit_ddl ON ddl_command_end EXECUTE FUNCTION ops.audit_ddl();
    END IF;
    IF NOT EXISTS (SELECT FROM pg_event_trigger WHERE evtname = 'audit_drop') THEN
        CREATE EVENT TRIGGER audit_drop ON sql_drop EXECUTE FUNCTION ops.audit_ddl();
    END IF;
    FOREACH recorder IN ARRAY ARRAY['audit_ddl', 'audit_drop'] LOOP
        IF (SELECT evtenabled FROM pg_event_trigger WHERE evtname = recorder) <> 'A' THEN
            EXECUTE format('ALTER EVENT TRIGGER %I ENABLE ALWAYS', recorder);
        END IF;
    END LOOP;
END
$$;
