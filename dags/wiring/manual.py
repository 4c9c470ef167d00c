"""The operator's manual of a DAG (`doc_md`): what it does, when, its parameters, what to do when it fails."""

from __future__ import annotations

from dags.wiring.policy import PATIENCE

from tidegate.contracts import Contract
from tidegate.contracts.model import in_words

_TROUBLE = """\
### When it fails
- A *transient* trouble (a server away, a lock held) is tried again, four times, ever more patiently.
- `land` failed: the delivery cannot be read. Its log names file, line and column. Have it corrected and clear
  the task.
- `publish` failed: the batch is **held**. Published data is as it was. `tidegate batch show BATCH` says why;
  then `tidegate batch release BATCH --why …` and clear `publish`, or `tidegate batch reject BATCH --why …`.
- Any task can be cleared and run again at any time: the same delivery is the same batch, and ends in the same
  rows.
"""


def of_ingest(contract: Contract) -> str:
    """Write the manual of `ingest_<dataset>`."""
    source = contract.sources[0] if contract.sources else None
    where = f"`{source.location}` ({source.format})" if source else "nowhere by itself: hand over a `file`"
    rhythm = "one partition a run" if contract.partitioning else "whole"
    parameters = "- `file`: take this file instead of what the source holds.\n"
    if contract.partitioning:
        parameters = "- `partition`: which one, as in `2013-03`; the run's partition key when empty.\n" + parameters
    return (
        f"## {contract.title}\n{contract.about.get('purpose') or contract.description}\n\n"
        f"Takes {contract.dataset} in from {where}, {rhythm}: land → stage → judge → publish, into "
        f"`{contract.schema}.{contract.table}`. {contract.grain}\n\n"
        f"Contract: `{contract.reference}`, version {contract.version}. Owner: {contract.owner or 'nobody'}. "
        f"Published within {in_words(contract.freshness or PATIENCE)} of the end of the partition.\n\n"
        f"### Parameters\n{parameters}\n{_TROUBLE}"
    )


def of_transform(contract: Contract, inputs: tuple[str, ...], doc: str) -> str:
    """Write the manual of `transform_<output>`."""
    return (
        f"## {contract.title}\n{contract.about.get('purpose') or contract.description}\n\n"
        f"Makes `{contract.schema}.{contract.table}` from the published batches of {', '.join(inputs)} on Spark, "
        "whenever one of them changes; it ends at once, skipped, when its output is made of exactly those "
        f"batches by exactly this code already. Contract: `{contract.reference}`, version {contract.version}.\n\n"
        f"### What it computes\n{doc}\n\n{_TROUBLE}"
    )
