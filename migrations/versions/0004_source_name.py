"""pre: batches name their source in source_name, beside source.

The first of three: readers and writers of either name go on while the rows are filled in (0005), until no program
asks for the old one (0006).
"""

from alembic import op

revision = "0004"
down_revision = "0003"

UP = """
ALTER TABLE ops.batch ADD COLUMN source_name text;
COMMENT ON COLUMN ops.batch.source_name IS 'What the sender called the files of the delivery.';
ALTER TABLE ops.batch ADD CONSTRAINT batch_source_name_given CHECK (source_name IS NOT NULL) NOT VALID;

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

# The new name holds nothing that the old one does not.
DOWN = """
DROP TRIGGER batch_source_both ON ops.batch;
DROP FUNCTION ops.batch_source_both();
ALTER TABLE ops.batch DROP COLUMN source_name;
"""

AGAIN = UP


def upgrade() -> None:
    op.execute(UP)


def downgrade() -> None:
    op.execute(DOWN)
