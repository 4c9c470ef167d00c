from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.observe.browser import render
from tests.shop import MARCH, Shop, orders, orders_contract

from tidegate.errors import HeldError
from tidegate.observe import report
from tidegate.observe.summary import lines, summary
from tidegate.publish.batches import release

HOSTILE = "<script>alert(1)</script>"
REFUSED = f"4,2024-03-04,Eve,{HOSTILE},1,true,"


def page(shop: Shop) -> str:
    return report.build(shop.settings).read_text(encoding="utf-8")


def figure(text: str, name: str) -> int:
    found = re.search(rf'id="{name}">([\d,]+)<', text)
    assert found is not None, name
    return int(found.group(1).replace(",", ""))


def publish_marts(shop: Shop, carrier_name: str = "United Air Lines Inc.") -> None:
    """Two carriers in two months, in the columns of the models' contracts."""
    shop.query("CREATE SCHEMA marts")
    shop.query(
        """
        CREATE TABLE marts.mart_on_time_by_carrier AS
        SELECT carrier, name AS carrier_name, month AS month_start, 120::bigint AS flight_count,
            10::bigint AS cancelled_count, 100::bigint AS arrived_count, on_time::bigint AS on_time_count,
            on_time / 100.0::double precision AS on_time_rate
        FROM (VALUES ('UA', %(name)s, date '2013-01-01', 91), ('UA', %(name)s, date '2013-02-01', 73),
                     ('AA', 'American', date '2013-01-01', 60)) AS v (carrier, name, month, on_time)
        """,
        {"name": carrier_name},  # type: ignore[arg-type]
    )
    shop.query(
        """
        CREATE TABLE marts.mart_delay_by_hour AS
        SELECT origin, hour AS scheduled_hour, 50::bigint AS flight_count, 1::bigint AS cancelled_count,
            delay AS mean_dep_delay_minutes, delay AS mean_arr_delay_minutes
        FROM (VALUES ('EWR', 6, float8 '1.25'), ('EWR', 18, 31.5), ('JFK', 6, NULL)) AS v (origin, hour, delay)
        """
    )
    shop.query(
        """
        CREATE TABLE marts.mart_inherited_delay AS
        SELECT 'UA' AS carrier, %(name)s::text AS carrier_name, 240::bigint AS flight_count,
            230::bigint AS departed_count, 70::bigint AS inheriting_count, 4000::bigint AS total_dep_delay_minutes,
            1000::bigint AS total_inherited_delay_minutes, 0.25::double precision AS inherited_share
        """,
        {"name": carrier_name},  # type: ignore[arg-type]
    )


class Resources(HTMLParser):
    """Collect what a page would fetch, and where its links lead."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.linked: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attributes:
            if name == "href" and tag == "a":
                self.linked.append(value or "")
            elif name in ("src", "href", "srcset", "data", "action", "poster", "xlink:href") or "url(" in (value or ""):
                self.fetched.append(value or "")


def test_an_empty_ledger_is_told_in_sentences(shop: Shop) -> None:
    text = page(shop)
    for sentence in (
        "No batch has arrived yet",
        "No gate has judged anything yet",
        "Nothing was refused",
        "No marts are published yet",
        "No step has ended yet",
    ):
        assert sentence in text
    assert "<table" not in text
    assert lines(summary(shop.settings)) == [
        "No batch has arrived yet: `tidegate ingest DATASET`, or `make run` for the whole year."
    ]


def test_every_figure_is_the_ledgers(shop: Shop) -> None:
    shop.agree(share=0.5)
    shop.ingest([*MARCH, REFUSED])
    shop.ingest(orders(10, 19, "2024-04"), "2024-04")
    text, told = page(shop), summary(shop.settings)
    assert (told.rows_delivered, told.rows_published, told.rows_refused) == (14, 13, 1)
    assert figure(text, "rows-delivered") == 14
    assert figure(text, "rows-published") == shop.query("SELECT count(*) AS n FROM raw.orders")[0]["n"] == 13
    assert figure(text, "rows-refused") == shop.query("SELECT count(*) AS n FROM quarantine.refused_row")[0]["n"]
    for row in shop.query("SELECT gate, verdict, count(*) AS n FROM ops.verdict GROUP BY gate, verdict"):
        assert told.verdicts[row["gate"]][row["verdict"]] == row["n"]
    for gate, counted in told.verdicts.items():
        shown = re.search(rf'data-gate="{gate}">.*?</tr>', text, re.DOTALL)
        assert shown is not None
        assert [int(n) for n in re.findall(r'<td class="num[^>]*>(\d+)<', shown.group())] == list(counted.values())
    for row in shop.query("SELECT step, sum(seconds) AS total FROM ops.step GROUP BY step"):
        assert told.seconds[row["step"]] == pytest.approx(row["total"])
        assert f'data-step="{row["step"]}"' in text
    for row in shop.query("SELECT evidence_sha256, target_source FROM ops.verdict WHERE evidence_sha256 IS NOT NULL"):
        assert row["evidence_sha256"] in text
        assert row["target_source"] in text


def test_a_replaced_batch_is_history(shop: Shop) -> None:
    shop.agree()
    shop.ingest(MARCH)
    shop.ingest(MARCH[:2])
    told = summary(shop.settings)
    assert (told.rows_delivered, told.rows_published) == (2, 2)
    assert told.batches == {"published": 1, "superseded": 1}
    assert "in 2 batches" in page(shop)
    # A contract that is broken by now takes nothing from what has happened.
    (shop.root / "schemas/visit.odcs.yaml").write_text("name: [")
    assert "in 2 batches" in page(shop)


def test_what_is_held_stands_first_until_a_person_decides(shop: Shop) -> None:
    shop.agree()
    shop.ingest(MARCH)
    with pytest.raises(HeldError):
        shop.ingest(["9,2024-04-01,Eve,-1,,true,"], "2024-04")
    held = summary(shop.settings).held
    text = page(shop)
    assert [one.name for one in held] == ["orders 2024-04"]
    assert "1 delivery is held at a gate" in text
    assert text.index(f"tidegate batch release {held[0].subject}") < text.index('id="datasets"')
    assert lines(summary(shop.settings))[0].startswith(f"HELD  orders 2024-04 ({held[0].subject})")
    release(shop.settings, held[0].subject, by="Ada", why="known")
    assert summary(shop.settings).held == ()
    assert 'id="held"' not in page(shop)


def test_what_others_wrote_is_shown_and_never_run(shop: Shop) -> None:
    shop.agree(share=0.5)
    shop.ingest([*MARCH, REFUSED], name="<img src=x onerror=alert(1)>.csv")
    publish_marts(shop, carrier_name=HOSTILE)
    text = page(shop)
    tags = Resources(text).tags
    assert not tags & {"script", "img"}
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 4  # quarantine, heat map, bars, tables
    assert "&lt;img src=x onerror=alert(1)&gt;.csv" in text


@pytest.mark.parametrize("classified", ["amount_euro", "customer"])
def test_values_of_classified_columns_are_withheld(shop: Shop, classified: str) -> None:
    contract = orders_contract(share=0.5).replace(
        f"      - name: {classified}\n", f"      - name: {classified}\n        classification: restricted\n"
    )
    shop.agree()
    (shop.root / "schemas/orders.odcs.yaml").write_text(contract)
    # A value of one column that is no number, and a record of which nobody can say what stands where.
    shop.ingest([*MARCH, "5,2024-03-05,Ada,my-amount,,true,", "6,2024-03-05,my,secret,record,is,of,no,shape"])
    text = page(shop)
    assert ("my-amount" in text) is (classified != "amount_euro")
    assert "my,secret,record" not in text
    assert "value withheld" in text
    assert shop.query("SELECT count(*) AS n FROM quarantine.refused_row")[0]["n"] == 2


def test_the_page_needs_no_network(shop: Shop) -> None:
    shop.agree(share=0.5)
    shop.ingest([*MARCH, REFUSED])
    publish_marts(shop)
    text = page(shop)
    found = Resources(text)
    assert [address for address in found.fetched if not address.startswith(("data:", "url(#"))] == []
    assert "http" not in re.sub(r"<meta http-equiv[^>]*>", "", text)
    assert "@import" not in text
    for link in found.linked:
        if not link.startswith("#"):
            assert (report.path(shop.settings).parent / link).is_file(), link


def test_plots_have_a_name_a_sentence_and_a_table(shop: Shop) -> None:
    shop.agree()
    shop.ingest(MARCH)
    publish_marts(shop)
    text = page(shop)
    assert text.count('<svg role="img"') == text.count("<desc>") == text.count("The figures as a table") == 3
    assert "Of 300 arrivals, 74.7 % were on time" in text
    assert "United Air Lines Inc. did best with 82.0 %, American worst with 60.0 %" in text
    assert "largest at 18:00 from EWR (31.5 min)" in text
    assert "Of 4,000 minutes of departure delay, 25.0 % came with an aircraft" in text


@pytest.mark.parametrize("width", [1280, 390])
def test_the_browser_shows_the_page_without_complaint_or_sideways_scrolling(
    shop: Shop, tmp_path: Path, width: int
) -> None:
    shop.agree(share=0.5)
    shop.ingest([*MARCH, REFUSED])
    with pytest.raises(HeldError):
        shop.ingest(["9,2024-04-01,Eve,-1,,true,", "10,2024-04-01,Eve,-1,,true,"], "2024-04", name="x" * 120 + ".csv")
    publish_marts(shop)
    shown = render(report.build(shop.settings), width, tmp_path)
    assert shown.complaints == []
    assert (shown.width, shown.needed) == (width, width)
    assert shown.height > 2000
    # The plots' colours are variables of the page: that they resolve shows that one drawing serves both themes.
    assert any(re.match(r"rgb\((?!0, 0, 0)", fill) for fill in shown.fills), shown.fills
