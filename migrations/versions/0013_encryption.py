"""pre: a type for sealed values, which takes no others, and the names of the keys that they were sealed under.

The keys themselves are never here. docs/decisions/ tells how values are sealed.
"""

from alembic import op

from tidegate.migrate.aside import is_set_aside

revision = "0013"
down_revision = "0012"

_KEY_OF = """
CREATE FUNCTION ops.key_of(value ops.sealed) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN convert_from(substring(value::bytea FROM 3 FOR get_byte(value::bytea, 1)), 'UTF8');
COMMENT ON FUNCTION ops.key_of IS 'The name of the key that a value was sealed under.';
"""

# 0xF5 begins no text in UTF-8; 35 bytes has the envelope of an empty text under a key with a name of one letter.
UP = f"""
-- squawk-ignore ban-create-domain-with-constraint
CREATE DOMAIN ops.sealed AS bytea CONSTRAINT is_sealed CHECK (
    octet_length(VALUE) >= 35 AND substring(VALUE FROM 1 FOR 1) = '\\xf5'::bytea
);
COMMENT ON DOMAIN ops.sealed IS 'A value sealed with AES-256-GCM before it came here; this server never has the key.';

CREATE TABLE ops.encryption_key (
    key_id text PRIMARY KEY,
    check_value text NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz
);
COMMENT ON TABLE ops.encryption_key IS 'The keys that confidential values were ever sealed under; by name, never the keys.';
COMMENT ON COLUMN ops.encryption_key.check_value IS 'Tells the key from another one of its name, and nothing about it.';
COMMENT ON COLUMN ops.encryption_key.retired_at IS 'When nothing in the warehouse or the landing area needed it any more.';
{_KEY_OF}"""

DOWN = """
CREATE SCHEMA aside_0013;
DROP FUNCTION ops.key_of;
ALTER TABLE ops.encryption_key SET SCHEMA aside_0013;
ALTER DOMAIN ops.sealed SET SCHEMA aside_0013;
"""

AGAIN = f"""
ALTER DOMAIN aside_0013.sealed SET SCHEMA ops;
ALTER TABLE aside_0013.encryption_key SET SCHEMA ops;
DROP SCHEMA aside_0013;
{_KEY_OF}"""


def upgrade() -> None:
    op.execute(AGAIN if is_set_aside(revision) else UP)


def downgrade() -> None:
    op.execute(DOWN)
