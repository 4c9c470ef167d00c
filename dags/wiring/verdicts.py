"""What the gates said of a batch, or of a build of the marts, as a text that Airflow's UI shows as it stands."""

from __future__ import annotations

from airflow.sdk import get_current_context

from tidegate.settings import Settings

#: Lines about rules that did not pass, and how long one may be: the ledger has the rest.
_LINES, _LENGTH = 10, 300


def show(settings: Settings, subject: str) -> None:
    """Hand the text on as XCom `verdicts`: a line that counts, and one for each rule that did not pass.

    A structure would be folded away behind a click, and lines run together: hence the bullets.
    """
    from tidegate.gates import ledger
    from tidegate.stores.postgres import connect

    with connect(settings) as connection:
        found = ledger.verdicts_of(connection, subject)
    counts = ", ".join(f"{sum(v.verdict == kind for v in found)} {kind}" for kind in ("PASS", "WARN", "FAIL"))
    lines = [f"{v.verdict} {v.gate}: {v.told}" for v in found if v.verdict != "PASS"]
    told = [line[:_LENGTH] for line in lines[:_LINES]]
    if len(lines) > _LINES:
        told.append(f"and {len(lines) - _LINES} more: `tidegate batch show` or the report has them")
    get_current_context()["ti"].xcom_push("verdicts", "\n• ".join([counts, *told]))
