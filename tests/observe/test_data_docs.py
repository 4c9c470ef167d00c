from __future__ import annotations

import json
from pathlib import Path

from tests.shop import MARCH, Shop, orders

from tidegate.observe import data_docs, report


def pages(site: data_docs.Site) -> list[str]:
    return sorted(path.stem for path in (site.index.parent / "validations").rglob("*.html"))


def test_data_docs_show_what_counts_now_and_the_report_links_them(shop: Shop) -> None:
    shop.agree()
    shop.ingest(MARCH)
    shop.ingest(MARCH[:2])
    shop.ingest(orders(10, 19, "2024-04"), "2024-04")
    site = data_docs.build(shop.settings)
    assert pages(site) == ["orders 2024-03", "orders 2024-04"]
    assert (site.validations, site.left_out) == (2, ())
    assert 'href="../docs/expectations/index.html"' in report.build(shop.settings).read_text()


def test_evidence_that_was_altered_is_left_out_and_named(shop: Shop) -> None:
    shop.agree()
    shop.ingest(MARCH)
    shop.ingest(orders(10, 19, "2024-04"), "2024-04")
    found = shop.query("SELECT path FROM ops.evidence WHERE kind = 'great_expectations' ORDER BY taken_at")
    paths = [Path(row["path"]) for row in found]
    altered = json.loads(paths[0].read_text()) | {"success": False}
    paths[0].write_text(json.dumps(altered))
    site = data_docs.build(shop.settings)
    assert (site.validations, site.left_out) == (1, (str(paths[0]),))
    assert pages(site) == ["orders 2024-04"]
    paths[0].unlink()
    assert data_docs.build(shop.settings).left_out == (str(paths[0]),)


def test_evidence_holds_figures_and_no_rows(shop: Shop) -> None:
    shop.agree()
    folder = shop.root / "expectations"
    folder.mkdir()
    (folder / "orders.yaml").write_text(
        "expectations:\n"
        "  - name: nobody is called Ada or Zoë\n"
        "    type: expect_column_values_to_not_be_in_set\n"
        "    severity: warning\n"
        "    kwargs: {column: customer, value_set: [Zoë, Ada]}\n"
        "  - name: customers are few\n"
        "    type: expect_column_distinct_values_to_be_in_set\n"
        "    severity: warning\n"
        "    kwargs: {column: customer, value_set: [Nobody]}\n"
    )
    shop.ingest(MARCH)
    (path,) = [Path(row["path"]) for row in shop.query("SELECT path FROM ops.evidence WHERE path LIKE '%domain%'")]
    results = json.loads(path.read_text())["results"]
    assert [result["success"] for result in results] == [False, False]
    assert results[0]["result"]["unexpected_count"] == 2
    assert "Grace" not in path.read_text()
