"""pre: the owner may see the rows of every tenant, for one transaction that says so.

A gate compares a batch with what is published of all tenants. Without the word, a query of the owner fails.
"""

from alembic import op

from tidegate.migrate.aside import is_set_aside

revision = "0010"
down_revision = "0009"

_ENTER = """
CREATE FUNCTION ops.enter_all() RETURNS void LANGUAGE sql
BEGIN ATOMIC
    SELECT set_config('row_security', 'on', true);
    SELECT set_config(
        'tidegate.every_tenant', pg_backend_pid() || '.' || extract(epoch FROM transaction_timestamp()), true
    );
END;
COMMENT ON FUNCTION ops.enter_all IS 'See the rows of every tenant until the transaction ends; for the owner''s own programs.';
REVOKE EXECUTE ON FUNCTION ops.enter_all FROM public;
"""

UP = f"""
CREATE FUNCTION ops.sees_all() RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER PARALLEL SAFE
SET search_path = pg_catalog
BEGIN ATOMIC
    SELECT session_user = (SELECT pg_get_userbyid(c.relowner) FROM pg_class AS c WHERE c.oid = 'ops.tenant_login'::regclass)
        AND coalesce(
            current_setting('tidegate.every_tenant', true)
            = pg_backend_pid() || '.' || extract(epoch FROM transaction_timestamp()),
            false
        );
END;
COMMENT ON FUNCTION ops.sees_all IS 'Whether this transaction of the owner sees the rows of every tenant.';
{_ENTER}"""

# Policies go on asking the function, wherever it stands.
DOWN = """
CREATE SCHEMA aside_0010;
ALTER FUNCTION ops.sees_all() SET SCHEMA aside_0010;
DROP FUNCTION ops.enter_all;
"""

AGAIN = f"""
ALTER FUNCTION aside_0010.sees_all() SET SCHEMA ops;
DROP SCHEMA aside_0010;
{_ENTER}"""


def upgrade() -> None:
    op.execute(AGAIN if is_set_aside(revision) else UP)


def downgrade() -> None:
    op.execute(DOWN)
