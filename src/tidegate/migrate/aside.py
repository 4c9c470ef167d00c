"""What a migration's way down leaves for its way up: nothing that held rows is dropped, it is set aside."""

from __future__ import annotations


def is_set_aside(revision: str) -> bool:
    """Return whether a way down has left something of `revision`; asked inside a running migration."""
    from alembic import op
    from sqlalchemy import text

    return bool(op.get_bind().scalar(text("SELECT to_regnamespace(:schema)"), {"schema": f"aside_{revision}"}))
