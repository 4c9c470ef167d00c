"""post: batches name their source in source_name alone.

The old column says the same as the new one, row for row; the way down makes it from there.
"""

from alembic import op

revision = "0006"
down_revision = "0005"

UP = """
DROP TRIGGER batch_source_both ON ops.batch;
DROP FUNCTION ops.batch_source_both();
-- The validated check spares it the look at every row.
-- squawk-ignore adding-not-nullable-field
ALTER TABLE ops.batch ALTER COLUMN source_name SET NOT NULL;
ALTER TABLE ops.batch DROP CONSTRAINT batch_source_name_given;
ALTER TABLE ops.batch DROP COLUMN source;
"""

DOWN = """
ALTER TABLE ops.batch ADD COLUMN source text;
-- The column is NOT NULL: the look at every row finds nothing, under a lock that a way back may take.
-- squawk-ignore constraint-missing-not-valid
ALTER TABLE ops.batch ADD CONSTRAINT batch_source_name_given CHECK (source_name IS NOT NULL);
ALTER TABLE ops.batch ALTER COLUMN source_name DROP NOT NULL;
UPDATE ops.batch SET source = source_name;
-- squawk-ignore adding-not-nullable-field
ALTER TABLE ops.batch ALTER COLUMN source SET NOT NULL;

CREATE FUNCTION ops.batch_source_both() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        NEW.source_name := coalesce(NEW.source_name, NEW.source);
        NEW.source := coalesce(NEW.source, NEW.source_name);
    ELSIF NEW.source IS DISTINCT FROM OLD.source THEN
        NEW.source_name := NEW.source;
    ELSIF NEW.source_name IS DISTINCT FROM OLD.source_name THEN
        NEW.source := NEW.source_name;
    ELSE
        NEW.source_name := coalesce(NEW.source_name, NEW.source);
    END IF;
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION ops.batch_source_both IS 'Keeps the old and the new name of a column the same, whichever is written.';
CREATE TRIGGER batch_source_both BEFORE INSERT OR UPDATE ON ops.batch
FOR EACH ROW EXECUTE FUNCTION ops.batch_source_both();
"""

AGAIN = UP


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
