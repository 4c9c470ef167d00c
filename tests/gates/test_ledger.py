"""What the ledger keeps of a file of evidence."""

from __future__ import annotations

from pathlib import Path

from tidegate.gates import ledger
from tidegate.gates.verdict import Evidence
from tidegate.settings import Settings
from tidegate.stores.postgres import connect


def test_a_measured_figure_is_not_overwritten_by_how_long_its_program_ran(settings: Settings) -> None:
    failover = Evidence("probe redis_failover", Path("f.log"), "a" * 64, {"seconds": 1.9}, "kill -9", 41.5, 0)
    drill = Evidence("probe drill", Path("d.log"), "b" * 64, {"rows": 3}, "restore", 12.5, 0)
    with connect(settings) as connection:
        ledger.record_evidence(connection, [failover, drill])
        rows = connection.execute("SELECT figures FROM ops.evidence ORDER BY path DESC").fetchall()
    assert [row["figures"] for row in rows] == [
        {"seconds": 1.9, "command": "kill -9", "exit_status": 0},
        {"rows": 3, "seconds": 12.5, "command": "restore", "exit_status": 0},
    ]
