"""pre: who may do what: grants to the roles of roles.sql, and the tenant of a session.

What a role may read of a dataset follows from its contract (`tidegate.contracts.access`); here stands what holds for
schemas, the ledger and the marts. docs/decisions/0005 tells how a tenant is known.
"""

from alembic import op

from tidegate.migrate.aside import is_set_aside

revision = "0009"
down_revision = "0008"

# Roles are the cluster's, and an ordinary owner may make none.
_ROLES = """
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['app', 'migration', 'readonly', 'analyst', 'admin', 'backup'] LOOP
        CONTINUE WHEN to_regrole(name) IS NOT NULL;
        IF NOT (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user) THEN
            RAISE EXCEPTION 'there is no role %, and % may make none: an administrator of the server runs '
                'migrations/roles.sql once', name, current_user;
        END IF;
        EXECUTE format('CREATE ROLE %I NOLOGIN', name);
    END LOOP;
END
$$;
"""

_GRANTS = """
DO $$
BEGIN
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO app, migration, readonly, analyst, admin, backup', current_database());
END
$$;
GRANT USAGE ON SCHEMA raw TO app, readonly;
GRANT USAGE ON SCHEMA core, ops TO app, readonly, analyst;
GRANT USAGE ON SCHEMA masked TO readonly, analyst;
GRANT SELECT ON ALL TABLES IN SCHEMA masked TO readonly, analyst;
GRANT SELECT ON ALL TABLES IN SCHEMA ops TO app, readonly;
ALTER DEFAULT PRIVILEGES IN SCHEMA ops GRANT SELECT ON TABLES TO app, readonly;
GRANT INSERT ON ops.decision, ops.step TO app;
GRANT UPDATE (state, held_reason) ON ops.batch, ops.marts_build TO app;
REVOKE EXECUTE ON FUNCTION ops.enter FROM public;
GRANT EXECUTE ON FUNCTION ops.enter TO app;

-- Of datasets that are published already; a classified one's table stays closed to all but the app.
DO $$
DECLARE
    found record;
    readers text;
BEGIN
    FOR found IN
        SELECT n.nspname, c.relname, to_regclass(format('masked.%I', c.relname)) IS NOT NULL AS classified
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('raw', 'core') AND c.relkind = 'p' AND NOT c.relispartition
    LOOP
        readers := CASE WHEN found.classified THEN 'app' WHEN found.nspname = 'raw' THEN 'app, readonly'
            ELSE 'app, readonly, analyst' END;
        EXECUTE format('GRANT SELECT ON %I.%I TO %s', found.nspname, found.relname, readers);
    END LOOP;
    IF to_regnamespace('marts') IS NOT NULL THEN
        GRANT USAGE ON SCHEMA marts TO app, readonly, analyst;
        GRANT SELECT ON ALL TABLES IN SCHEMA marts TO app, readonly, analyst;
    END IF;
END
$$;
"""

_ENTER = """
CREATE FUNCTION ops.enter(tenant text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    IF NOT pg_has_role(session_user, 'app', 'MEMBER')
        OR EXISTS (SELECT FROM ops.tenant_login AS l WHERE l.login = session_user)
    THEN
        RAISE EXCEPTION '% serves no tenants of its choice', session_user USING ERRCODE = 'insufficient_privilege';
    END IF;
    PERFORM set_config(
        'tidegate.tenant',
        tenant || '@' || pg_backend_pid() || '.' || extract(epoch FROM transaction_timestamp()),
        true
    );
END
$$;
COMMENT ON FUNCTION ops.enter IS 'Work for one tenant until the transaction ends; for programs that serve many.';
"""

_LAYOUT = """
ALTER TABLE ops.table_layout ADD COLUMN access_sha256 text;
COMMENT ON COLUMN ops.table_layout.access_sha256 IS 'Of the statements by which a contract last said who may read the table.';
"""

UP = f"""{_ROLES}
CREATE SCHEMA masked;
COMMENT ON SCHEMA masked IS 'Views of datasets with classified columns, as those see them who may not see these.';

CREATE TABLE ops.tenant_login (
    login name PRIMARY KEY,
    tenant text NOT NULL,
    bound_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ops.tenant_login IS 'Logins that see the rows of one tenant, whatever a session says.';

-- The setting counts in the transaction alone that has entered: what a pooled client leaves behind says nothing.
-- The body is kept by what it names, not by their names: it goes on when those are set aside.
CREATE FUNCTION ops.tenant() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER PARALLEL SAFE
SET search_path = pg_catalog
BEGIN ATOMIC
    SELECT coalesce(
        (SELECT l.tenant FROM ops.tenant_login AS l WHERE l.login = session_user),
        CASE
            WHEN pg_has_role(session_user, 'app', 'MEMBER')
                AND split_part(current_setting('tidegate.tenant', true), '@', 2)
                    = pg_backend_pid() || '.' || extract(epoch FROM transaction_timestamp())
            THEN split_part(current_setting('tidegate.tenant', true), '@', 1)
        END
    );
END;
COMMENT ON FUNCTION ops.tenant IS 'Whose rows this transaction may see; nobody''s where it is null.';
{_ENTER}{_LAYOUT}{_GRANTS}"""

# Policies go on asking the function, wherever it stands: nothing is opened by going down.
DOWN = """
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['raw', 'core', 'ops', 'masked', 'marts'] LOOP
        CONTINUE WHEN to_regnamespace(name) IS NULL;
        EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA %I FROM app, readonly, analyst', name);
        EXECUTE format('REVOKE ALL ON SCHEMA %I FROM app, readonly, analyst', name);
    END LOOP;
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM app, migration, readonly, analyst, admin, backup', current_database());
END
$$;
ALTER DEFAULT PRIVILEGES IN SCHEMA ops REVOKE SELECT ON TABLES FROM app, readonly;
CREATE SCHEMA aside_0009;
ALTER TABLE ops.tenant_login SET SCHEMA aside_0009;
ALTER FUNCTION ops.tenant() SET SCHEMA aside_0009;
ALTER SCHEMA masked RENAME TO aside_0009_masked;
DROP FUNCTION ops.enter;
ALTER TABLE ops.table_layout DROP COLUMN access_sha256;
"""

AGAIN = f"""{_ROLES}
ALTER SCHEMA aside_0009_masked RENAME TO masked;
ALTER FUNCTION aside_0009.tenant() SET SCHEMA ops;
ALTER TABLE aside_0009.tenant_login SET SCHEMA ops;
DROP SCHEMA aside_0009;
{_ENTER}{_LAYOUT}{_GRANTS}"""


def upgrade() -> None:
    op.execute(AGAIN if is_set_aside(revision) else UP)


def downgrade() -> None:
    op.execute(DOWN)
