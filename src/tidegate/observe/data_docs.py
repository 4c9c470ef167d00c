"""Great Expectations' Data Docs, built from the evidence files that the ledger names; off the hot path.

A file whose hash is no longer the one in the ledger is no evidence: it is left out, and named.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.gates.expectations import great_expectations
from tidegate.observe import shelf
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
    return shelf.folder(settings, "expectations")


def build(settings: Settings) -> Site:
    """Build the site anew and return it; an older one is replaced when the new one is whole.

    Raises:
        UnavailableError: the warehouse does not answer.
    """
    with shelf.renewed(folder(settings)) as partial:
        shown, left_out = _fill(partial, _newest(settings))
    return Site(folder(settings) / "index.html", shown, tuple(left_out))


def _fill(target: Path, rows: list[Row]) -> tuple[int, list[str]]:
    """Build the site in an empty folder; return how many validations it shows, and the evidence that it does not."""
    gx = great_expectations()
    from great_expectations.core.expectation_validation_result import expectationSuiteValidationResultSchema

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    context.variables.data_docs_sites = {"tidegate": _configuration(target)}
    store = context.stores[context.validation_results_store_name]
    left_out, suites = [], {}
    for row in rows:
        content = _proven(row)
        if content is None:
            left_out.append(str(row["path"]))
            continue
        document = _annotated(row, content)
        suites[document["suite_name"]] = [result["expectation_config"] for result in document["results"]]
        store.set(_key(row, document), expectationSuiteValidationResultSchema.load(document))
    for name, configurations in suites.items():
        context.suites.add(gx.ExpectationSuite(name=name, expectations=configurations))
    context.build_data_docs(site_names=["tidegate"])
    return len(rows) - len(left_out), left_out


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
    """Add what the pages show beside the results: what was judged, when, and where the rules are written."""
    # A dataset, or a table of the marts: the table's name without the batch's own ending.
    about = document["meta"]["active_batch_definition"]["data_asset_name"].partition("__")[0]
    document["suite_name"] = f"{about} {document['suite_name']}"
    for result in document["results"]:
        meta = result["expectation_config"]["meta"]
        meta["notes"] = {"format": "string", "content": [f"{meta['target']}, written in {meta['source']}"]}
    run = {"run_name": row["subject"], "run_time": row["taken_at"].isoformat()}
    document["meta"] |= {"run_id": run, "batch_spec": {"data_asset_name": _about(row, about)}}
    return document


def _about(row: Row, name: str) -> str:
    return f"{name} {row['partition']}" if row["partition"] else name


def _key(row: Row, document: Row) -> Any:
    from great_expectations.core.run_identifier import RunIdentifier
    from great_expectations.data_context.types.resource_identifiers import (
        ExpectationSuiteIdentifier,
        ValidationResultIdentifier,
    )

    return ValidationResultIdentifier(
        expectation_suite_identifier=ExpectationSuiteIdentifier(document["suite_name"]),
        run_id=RunIdentifier(run_name=row["subject"], run_time=row["taken_at"]),
        batch_identifier=document["meta"]["batch_spec"]["data_asset_name"],
    )


def _configuration(target: Path) -> Row:
    return {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": f"{target}/"},
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
    }
