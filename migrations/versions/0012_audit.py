"""pre: what is done to the schema and to classified values is written down, in the transaction that does it.

docs/decisions/0007 says what is recorded there, what is only as good as a log, and how the chain is made. Triggers on
the tables of a dataset follow from its contract (`tidegate.contracts.access`); those on commands an administrator makes
(migrations/audit.sql).
"""

from alembic import op

from tidegate.migrate.aside import is_set_aside

revision = "0012"
down_revision = "0011"

_ROLE = """
DO $$
BEGIN
    IF to_regrole('auditor') IS NULL THEN
        IF NOT (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user) THEN
            RAISE EXCEPTION 'there is no role auditor, and % may make none: an administrator of the server runs '
                'migrations/roles.sql again', current_user;
        END IF;
        CREATE ROLE auditor NOLOGIN;
    END IF;
END
$$;
"""

_ENTER_ALL = """
CREATE OR REPLACE FUNCTION ops.enter_all() RETURNS void LANGUAGE sql
BEGIN ATOMIC
    SELECT set_config('row_security', 'on', true);
    SELECT set_config(
        'tidegate.every_tenant', pg_backend_pid() || '.' || extract(epoch FROM transaction_timestamp()), true
    );
    INSERT INTO ops.audit (action, object) VALUES ('enter_all', 'every tenant');
END;
"""

#: Refused rows may hold values of any dataset.
_QUARANTINE = """
CREATE TRIGGER audit_insert AFTER INSERT ON quarantine.refused_row REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION ops.audit_write();
CREATE TRIGGER audit_update AFTER UPDATE ON quarantine.refused_row REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION ops.audit_write();
CREATE TRIGGER audit_delete AFTER DELETE ON quarantine.refused_row REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION ops.audit_write();
CREATE TRIGGER audit_truncate AFTER TRUNCATE ON quarantine.refused_row
    FOR EACH STATEMENT EXECUTE FUNCTION ops.audit_write();
"""

UP = f"""{_ROLE}
CREATE TABLE ops.audit (
    audit_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    occurred_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    login name NOT NULL DEFAULT session_user,
    -- Not current_user, which inside the functions below is their owner.
    role_name name NOT NULL DEFAULT coalesce(nullif(current_setting('role'), 'none'), session_user),
    application_name text NOT NULL DEFAULT current_setting('application_name'),
    client_address inet DEFAULT inet_client_addr(),
    transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id(),
    action text NOT NULL CHECK (action IN ('insert', 'update', 'delete', 'truncate', 'publish', 'undo', 'ddl', 'drop',
        'read', 'enter_all', 'export', 'erase')),
    object text NOT NULL,
    row_count bigint CHECK (row_count >= 0),
    detail text
);
COMMENT ON TABLE ops.audit IS 'One row per write or read of classified values and per change of the schema: who, when, what; never the values.';
COMMENT ON COLUMN ops.audit.login IS 'Who logged in; role_name is whom the session acted as.';
COMMENT ON COLUMN ops.audit.row_count IS 'Rows that were written or read; null where nobody has counted them.';
CREATE INDEX audit_by_time ON ops.audit (occurred_at);
COMMENT ON INDEX ops.audit_by_time IS 'What happened since a moment: tidegate audit list --since.';

-- Apart from the lines, so that none is ever touched again. No foreign key: a line that is gone has to be seen, and the
-- check would lock each line once more.
CREATE TABLE ops.audit_seal (
    place bigint PRIMARY KEY,
    audit_id bigint NOT NULL UNIQUE,
    sha256 text NOT NULL
);
COMMENT ON TABLE ops.audit_seal IS 'The chain: the lines of ops.audit in the order of their commits, each with a hash over itself and the hash before.';

CREATE FUNCTION ops.audit_text(line ops.audit, place bigint, before text) RETURNS text LANGUAGE sql STABLE
SET search_path = pg_catalog
RETURN jsonb_build_array(
    before, place::text, line.audit_id::text, (extract(epoch FROM line.occurred_at) * 1000000)::bigint::text, line.login::text,
    line.role_name::text, line.application_name, host(line.client_address), line.transaction_id::text, line.action, line.object,
    line.row_count::text, line.detail
)::text;
COMMENT ON FUNCTION ops.audit_text IS 'What the hash of a line is taken of; tidegate.gates.audit_chain says the same in Python.';

-- Runs when its transaction commits, which then takes no other lock: writers wait for each other's commit and no longer.
CREATE FUNCTION ops.audit_chain() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    last ops.audit_seal;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('tidegate audit', 0));
    SELECT * INTO last FROM ops.audit_seal ORDER BY place DESC LIMIT 1;
    last.place := coalesce(last.place, 0) + 1;
    -- A transaction that cannot see the end of the chain (repeatable read) finds its place taken, and is told to try again.
    INSERT INTO ops.audit_seal (place, audit_id, sha256) VALUES (
        last.place, NEW.audit_id,
        encode(sha256(convert_to(ops.audit_text(NEW, last.place, coalesce(last.sha256, '')), 'UTF8')), 'hex')
    ) ON CONFLICT (place) DO NOTHING;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER chain AFTER INSERT ON ops.audit DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION ops.audit_chain();

CREATE FUNCTION ops.audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%.% is only ever added to, by whomever: % refused', TG_TABLE_SCHEMA, TG_TABLE_NAME, lower(TG_OP)
        USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ops.audit
    FOR EACH STATEMENT EXECUTE FUNCTION ops.audit_refuse();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ops.audit_seal
    FOR EACH STATEMENT EXECUTE FUNCTION ops.audit_refuse();

-- Where the audit is set aside (a way down), what it watches goes on unrecorded.
CREATE FUNCTION ops.audit_write() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    rows bigint;
BEGIN
    IF to_regclass('ops.audit') IS NULL THEN
        RETURN NULL;
    END IF;
    IF TG_OP <> 'TRUNCATE' AND TG_NARGS = 0 THEN
        SELECT count(*) INTO rows FROM changed;
        IF rows = 0 THEN
            RETURN NULL;
        END IF;
    END IF;
    INSERT INTO ops.audit (action, object, row_count)
    VALUES (lower(TG_OP), format('%I.%I', TG_TABLE_SCHEMA, TG_TABLE_NAME), rows);
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION ops.audit_write IS 'Records a statement that wrote rows to a table; with an argument, without counting them.';

CREATE FUNCTION ops.audit_ddl() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    named text;
BEGIN
    IF to_regclass('ops.audit') IS NULL THEN
        RETURN;
    END IF;
    IF TG_EVENT = 'sql_drop' THEN
        -- What an ALTER TABLE drops is a part of that command, which has a line of its own.
        IF TG_TAG NOT LIKE 'DROP %' THEN
            RETURN;
        END IF;
        SELECT string_agg(DISTINCT object_identity, ', ') INTO named FROM pg_event_trigger_dropped_objects() WHERE original;
    ELSE
        -- Grants do not say on what they are, only on what kind of thing.
        SELECT string_agg(DISTINCT coalesce(object_identity, lower(object_type)), ', ')
        INTO named FROM pg_event_trigger_ddl_commands();
    END IF;
    IF named IS NOT NULL THEN
        INSERT INTO ops.audit (action, object, detail)
        VALUES (CASE TG_EVENT WHEN 'sql_drop' THEN 'drop' ELSE 'ddl' END, named, TG_TAG);
    END IF;
END
$$;
COMMENT ON FUNCTION ops.audit_ddl IS 'Records a command that changed the schema, without its text; for the event triggers of migrations/audit.sql.';

REVOKE ALL ON ops.audit, ops.audit_seal FROM app, readonly;
GRANT SELECT ON ops.audit, ops.audit_seal TO admin;
REVOKE EXECUTE ON FUNCTION ops.audit_text, ops.audit_chain, ops.audit_refuse, ops.audit_write, ops.audit_ddl FROM public;
{_ENTER_ALL}{_QUARANTINE}"""

# Triggers go on calling their functions, wherever they stand; these then do nothing.
DOWN = """
-- Lines that wait for the commit would look for the chain where it is no more.
SET CONSTRAINTS ALL IMMEDIATE;
DROP TRIGGER audit_insert ON quarantine.refused_row;
DROP TRIGGER audit_update ON quarantine.refused_row;
DROP TRIGGER audit_delete ON quarantine.refused_row;
DROP TRIGGER audit_truncate ON quarantine.refused_row;
CREATE OR REPLACE FUNCTION ops.enter_all() RETURNS void LANGUAGE sql
BEGIN ATOMIC
    SELECT set_config('row_security', 'on', true);
    SELECT set_config(
        'tidegate.every_tenant', pg_backend_pid() || '.' || extract(epoch FROM transaction_timestamp()), true
    );
END;
CREATE SCHEMA aside_0012;
ALTER TABLE ops.audit SET SCHEMA aside_0012;
ALTER TABLE ops.audit_seal SET SCHEMA aside_0012;
ALTER FUNCTION ops.audit_text SET SCHEMA aside_0012;
ALTER FUNCTION ops.audit_chain SET SCHEMA aside_0012;
ALTER FUNCTION ops.audit_refuse SET SCHEMA aside_0012;
ALTER FUNCTION ops.audit_write SET SCHEMA aside_0012;
ALTER FUNCTION ops.audit_ddl SET SCHEMA aside_0012;
"""

AGAIN = f"""{_ROLE}
ALTER TABLE aside_0012.audit SET SCHEMA ops;
ALTER TABLE aside_0012.audit_seal SET SCHEMA ops;
ALTER FUNCTION aside_0012.audit_text SET SCHEMA ops;
ALTER FUNCTION aside_0012.audit_chain SET SCHEMA ops;
ALTER FUNCTION aside_0012.audit_refuse SET SCHEMA ops;
ALTER FUNCTION aside_0012.audit_write SET SCHEMA ops;
ALTER FUNCTION aside_0012.audit_ddl SET SCHEMA ops;
DROP SCHEMA aside_0012;
{_ENTER_ALL}{_QUARANTINE}"""


def upgrade() -> None:
    op.execute(AGAIN if is_set_aside(revision) else UP)


def downgrade() -> None:
    op.execute(DOWN)
