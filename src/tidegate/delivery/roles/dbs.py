"""What the database specialist of a Python team writes: which migrations there are, applied where, and that they lead back."""

from __future__ import annotations

from tidegate.delivery.cited import Asked, figures, file
from tidegate.delivery.markdown import head, table
from tidegate.delivery.work import Work
from tidegate.migrate import door
from tidegate.stores.postgres import warehouse_url


def migration_log(work: Work) -> str:
    """Return every migration with its state here, and what was found when all were taken back and applied again."""
    stands = door.standing(warehouse_url(work.settings), work.settings.project)
    return "\n".join([
        *head(work, "Migrations, applied and pending"),
        f"{sum(one.applied for one in stands)} of {len(stands)} are applied in this warehouse.",
        "",
        *figures(work, [
            Asked("lines of the schema that a way back left otherwise", "migration_each", "schema_lines_that_differ"),
            Asked("migrations taken down and up again with rows", "migration_full_chain", "migrations"),
            Asked("tables that differed afterwards", "migration_full_chain", "tables_that_differ"),
            Asked("violations that sqlfluff found", "sqlfluff", "violations"),
        ]),
        "## One by one",
        "",
        *table(
            ["revision", "phase", "what", "state", "by"],
            [
                [file(work, f"migrations/versions/{s.step.path.name}", s.step.revision), s.step.phase, s.step.title,
                 f"applied {s.changed_at:%Y-%m-%d %H:%M}" if s.changed_at else "applied" if s.applied else "pending", s.changed_by]
                for s in stands
            ],
        ),
    ])  # fmt: skip
