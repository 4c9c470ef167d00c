"""Great Expectations' Data Docs, built from the evidence files that the ledger names; off the hot path.

A file whose hash is no longer the one in the ledger is no evidence: it is left out, and named.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.observe.summary import VERDICTS, snapshot
from tidegate.settings import Settings

#: Partitions of each dataset that get pages, the newest first; the ledger holds the rest.
PARTITIONS_SHOWN = 12

Row = dict[str, Any]


@dataclass(frozen=True)
class Site:
    """What was built: its first page, how many validations it shows, which evidence had to be left out."""

    index: Path
    validations: int
    left_out: tuple[str, ...]


def folder(settings: Settings) -> Path:
    """Return where the site stands."""
    return settings.home / "docs" / "expectations"


def build(settings: Settings) -> Site:
    """Build the site anew and return it; an older one is replaced when the new one is whole.

    Raises:
        UnavailableError: the warehouse does not answer.
    """
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations as gx
    from great_expectations.core.expectation_validation_result import expectationSuiteValidationResultSchema

    rows = _newest(settings)
    site, partial = folder(settings), folder(settings).with_suffix(".partial")
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    context.variables.data_docs_sites = {"tidegate": _configuration(partial)}
    store = context.stores[context.validation_results_store_name]
    left_out = []
    for row in rows:
        document = _proven(row)
        if document is None:
            left_out.append(str(row["path"]))
            continue
        store.set(_key(row, document), expectationSuiteValidationResultSchema.load(_annotated(row, document)))
    shutil.rmtree(partial, ignore_errors=True)
    context.build_data_docs(site_names=["tidegate"])
    shutil.rmtree(site, ignore_errors=True)
    partial.replace(site)
    return Site(site / "index.html", len(rows) - len(left_out), tuple(left_out))


def _newest(settings: Settings) -> list[Row]:
    """Return the evidence of what counts now, of the newest partitions of each dataset."""
    query = f"""
        SELECT * FROM (
            SELECT DISTINCT v.dataset, v.partition, v.subject, e.path, e.evidence_sha256, e.taken_at,
                dense_rank() OVER (PARTITION BY v.dataset ORDER BY v.partition DESC) AS place
            FROM ({VERDICTS}) AS v JOIN ops.evidence AS e USING (evidence_sha256)
            WHERE e.kind = 'great_expectations'
        ) AS told WHERE place <= %s ORDER BY dataset, partition, path
    """
    with snapshot(settings) as connection:
        return connection.execute(query, [PARTITIONS_SHOWN]).fetchall()


def _proven(row: Row) -> Row | None:
    """Return what the evidence file holds, if it still is what was judged."""
    try:
        content = Path(row["path"]).read_bytes()
    except OSError:
        return None
    if hashlib.sha256(content).hexdigest() != row["evidence_sha256"]:
        return None
    document: Row = json.loads(content)
    return document


def _annotated(row: Row, document: Row) -> Row:
    """Add what the pages show beside the results: the run, and where each expectation is written."""
    for result in document["results"]:
        meta = result["expectation_config"]["meta"]
        meta["notes"] = {"format": "string", "content": [f"{meta['target']}, written in {meta['source']}"]}
    run = {"run_name": row["subject"], "run_time": row["taken_at"].isoformat()}
    document["meta"] |= {"run_id": run, "validation_time": row["taken_at"].isoformat()}
    return document


def _key(row: Row, document: Row) -> Any:
    from great_expectations.core.run_identifier import RunIdentifier
    from great_expectations.data_context.types.resource_identifiers import (
        ExpectationSuiteIdentifier,
        ValidationResultIdentifier,
    )

    # The name of a folder on the site: a table of the marts, or a dataset.
    about = document["meta"]["active_batch_definition"]["data_asset_name"].partition("__")[0]
    return ValidationResultIdentifier(
        expectation_suite_identifier=ExpectationSuiteIdentifier(f"{about} {document['suite_name']}"),
        run_id=RunIdentifier(run_name=row["subject"], run_time=row["taken_at"]),
        batch_identifier=" ".join(filter(None, (about, row["partition"]))),
    )


def _configuration(target: Path) -> Row:
    return {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": f"{target}/"},
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
    }
