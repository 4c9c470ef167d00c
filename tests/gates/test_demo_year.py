"""The whole real year through its gates: what is known to be missing is measured, and warned of."""

from __future__ import annotations

from collections import Counter

from tidegate.gates import ledger
from tidegate.run import demo
from tidegate.settings import Settings
from tidegate.stores.postgres import connect
from tidegate.wave import ingest

PLANES = "every aircraft is in the register of planes"
AIRPORTS = "every destination is in the list of airports"


def test_the_flights_that_name_unknown_planes_and_airports_are_counted_and_published(settings: Settings) -> None:
    demo.deliver(settings)
    for dataset in demo.WHOLE:
        ingest(settings, dataset)
    missing: Counter[str] = Counter()
    for month in demo.MONTHS:
        batch = ingest(settings, "flights", month)
        assert batch.state == "published"
        with connect(settings) as connection:
            found = ledger.verdicts_of(connection, batch.batch_id)
        assert {v.rule for v in found if v.verdict != "PASS"} == {PLANES, AIRPORTS}, month
        for verdict in found:
            if verdict.verdict == "WARN":
                missing[verdict.rule] += int(verdict.value.removesuffix(" rows"))
                assert verdict.target_source.startswith("expectations/flights.yaml:")
    assert missing == {PLANES: 50_094, AIRPORTS: 7_602}
    with connect(settings) as connection:
        row = connection.execute("SELECT count(*) AS n FROM raw.flights").fetchone()
    assert row == {"n": 336_776}
