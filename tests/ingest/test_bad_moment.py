"""Good input at a bad moment, and bad words: a sentence, nothing published by halves, and the next run finishes."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.contracts.command import run
from tests.ingest.wire import wire
from tests.shop import HEADER, MARCH, Shop, orders

from tidegate import wave
from tidegate.errors import BusyError, ContractError
from tidegate.gates import ledger
from tidegate.gates.ledger import Batch
from tidegate.ingest.land import land
from tidegate.ingest.stage import stage
from tidegate.publish.batches import publish
from tidegate.settings import load_settings
from tidegate.stack.postgres import PostgresServer
from tidegate.stores.postgres import connect, exclusive


def bulky(megabytes: int) -> list[str]:
    """Orders that do not compress, of a kilobyte each."""
    dice = random.Random(7)
    return [
        f"{n},2024-03-05,{dice.randbytes(500).hex()},1.00,1,true,2024-03-05T00:00:00Z"
        for n in range(1, megabytes * 1_000)
    ]


def orphans(shop: Shop) -> list[Path]:
    """Working copies that nobody works on any more."""
    return [*shop.settings.home.glob("spool/*"), *shop.settings.home.glob("landing/**/*.partial")]


def test_a_late_batch_joins_its_own_partition(shop: Shop) -> None:
    shop.ingest(orders(11, 12, "2024-05"), "2024-05")
    shop.ingest(MARCH)
    assert shop.numbers() == [1, 2, 3, 11, 12]
    assert shop.states() == ["published", "published"]


def test_a_repeated_batch_changes_nothing(shop: Shop) -> None:
    first = shop.ingest(MARCH)
    before = shop.checksum()
    ended = run("ingest", "orders", "--file", str(shop.file(MARCH, "under another name.csv")))
    assert (ended.exit_code, f"batch {first.batch_id} is published: 3 of 3 rows" in ended.output) == (0, True)
    assert (shop.checksum(), shop.states()) == (before, ["published"])


def test_a_delivery_that_was_corrected_does_not_come_back(shop: Shop) -> None:
    shop.ingest(MARCH)
    shop.ingest(MARCH[:2])
    ended = run("ingest", "orders", "-p", "2024-03", "--file", str(shop.file(MARCH)))
    assert ended.exit_code == 1
    assert "was published once and is superseded: delivering it again does not bring it back" in ended.output
    assert "`tidegate batch undo` goes back to the batch before" in ended.output
    assert shop.numbers() == [1, 2]


def test_a_key_that_is_published_in_another_partition_holds_the_batch(shop: Shop) -> None:
    shop.ingest(MARCH)
    before = shop.checksum()
    ended = run("ingest", "orders", "-p", "2024-04", "--file", str(shop.file(orders(3, 6, "2024-04"))))
    assert ended.exit_code == 1
    assert "is held: (order_id) is not published in another partition: 1 of 4 rows, expected 0 rows" in ended.output
    assert shop.checksum() == before
    assert len(shop.staging()) == 1


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("kind: DataContract", "kind: Nonsense", "orders.odcs.yaml:2: kind: 'Nonsense' is not one of"),
        ("apiVersion: v3.1.0", "apiVersion: v2.2.2", "orders.odcs.yaml:1: apiVersion 'v2.2.2': expected a version 3"),
        ("version: 1.0.0", "version: one", "orders.odcs.yaml:5: version 'one' must be MAJOR.MINOR.PATCH, as in 1.0.0"),
        (
            "physicalType: bigint",
            "physicalType: jsonb",
            "column 'order_id': integer as jsonb is not supported; use text,",
        ),
        ("schema:", "schema: [", "not valid YAML"),
    ],
)
def test_a_contract_that_is_none_takes_nothing_in(shop: Shop, before: str, after: str, sentence: str) -> None:
    path = shop.root / "schemas/orders.odcs.yaml"
    path.write_text(path.read_text().replace(before, after))
    ended = run("ingest", "orders", "-p", "2024-03", "--file", str(shop.file(MARCH)))
    assert ended.exit_code == 1
    assert sentence in ended.output
    assert (shop.states(), shop.published()) == ([], [])


def test_a_batch_of_another_version_of_the_contract_is_not_staged(shop: Shop) -> None:
    landed = land(shop.settings, shop.contract, "2024-03", shop.file(MARCH))
    shop.agree(version="2.0.0")
    with pytest.raises(
        ContractError, match=r"was landed under version 1.0.0 of .*, which is 2.0.0 now: take the deliv"
    ):
        stage(shop.settings, shop.contract, landed.batch_id)
    shop.ingest(MARCH)
    assert shop.numbers() == [1, 2, 3]
    assert shop.states() == ["landed", "published"]


def test_a_file_may_be_called_whatever_its_sender_likes(shop: Shop) -> None:
    name = "o'); DROP TABLE raw.orders; --*[a]{b} \x1b[31m\n.csv"
    shop.ingest(MARCH, name=name)
    assert shop.numbers() == [1, 2, 3]
    assert shop.query("SELECT source_name FROM ops.batch") == [{"source_name": str(shop.root / "delivered" / name)}]
    ended = run("ingest", "orders", "-p", "2024-04", "--file", str(shop.file("", name)))
    assert ended.exit_code == 1
    assert "\\x1b[31m" in ended.output
    assert "\x1b" not in ended.output


def test_of_several_runs_of_one_batch_one_publishes_and_the_others_step_back(shop: Shop) -> None:
    path = shop.file([*MARCH, *orders(4, 2_000)])

    def attempt(_: int) -> Batch | BusyError:
        try:
            return wave.ingest(shop.settings, "orders", "2024-03", path)
        except BusyError as busy:
            return busy

    with ThreadPoolExecutor(4) as pool:
        ended = list(pool.map(attempt, range(4)))
    published = [batch for batch in ended if isinstance(batch, Batch)]
    assert published
    assert {batch.state for batch in published} == {"published"}
    assert shop.numbers() == [1, 2, 3, *range(4, 2_001)]
    assert (shop.states(), shop.staging(), orphans(shop)) == (["published"], [], [])


def test_a_batch_that_somebody_works_on_is_left_to_them(shop: Shop) -> None:
    landed = land(shop.settings, shop.contract, "2024-03", shop.file(MARCH))
    with connect(shop.settings) as connection, exclusive(connection, f"batch {landed.batch_id}"):
        ended = run("ingest", "orders", "-p", "2024-03", "--file", str(shop.file(MARCH)))
    assert ended.exit_code == 1
    assert f"batch {landed.batch_id} is being worked on by another process; try again when it has ended" in ended.output
    assert run("ingest", "orders", "-p", "2024-03", "--file", str(shop.file(MARCH))).exit_code == 0
    assert shop.numbers() == [1, 2, 3]


def test_a_connection_cut_while_copying_costs_the_copy_only(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.ingest(MARCH)
    before = shop.checksum()
    assert shop.settings.warehouse_url is not None
    url = shop.settings.warehouse_url.get_secret_value()
    port = urlsplit(url).port
    assert port is not None
    path = shop.file(bulky(4))
    with wire(port) as led:
        monkeypatch.setenv("TIDEGATE_WAREHOUSE_URL", url.replace(f":{port}/", f":{led.port}/"))
        # Nothing but the rows themselves is that much.
        led.budget = 1_000_000
        ended = run("ingest", "orders", "-p", "2024-03", "--file", str(path))
        assert led.cuts == 1
        assert ended.exit_code == 1
        assert "run it again: nothing was published" in ended.output
        assert shop.checksum() == before
        again = run("ingest", "orders", "-p", "2024-03", "--file", str(path))
    assert again.exit_code == 0, again.output
    assert len(shop.numbers()) == len(bulky(4))
    assert (shop.states(), shop.staging(), orphans(shop)) == (["superseded", "published"], [], [])


FILL = 'mount -t tmpfs -o size=2m tmpfs "$TIDEGATE_HOME" && exec "$@"'


def test_a_full_disk_of_ours_is_told_and_costs_nothing(shop: Shop, tmp_path: Path) -> None:
    shop.ingest(MARCH)
    before = shop.checksum()
    path, small = shop.file(bulky(6)), tmp_path / "small"
    small.mkdir()
    program = [sys.executable, "-c", "import tidegate.cli; tidegate.cli.main()"]
    words = [*program, "ingest", "orders", "-p", "2024-03", "--file", str(path)]
    environment = {**os.environ, "TIDEGATE_HOME": str(small)}

    # A disk of two megabytes that only this process sees; where none may be mounted, files that may have no more.
    mounted = ["unshare", "--map-root-user", "--mount", "sh", "-c", FILL, "sh"]
    may = subprocess.run([*mounted, "true"], env=environment, capture_output=True, check=False).returncode == 0
    words = [*(mounted if may else ["prlimit", f"--fsize={2 << 20}"]), *words]
    ended = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "no space left" in ended.stderr
    assert "free some and run this again; nothing was published" in ended.stderr
    assert (shop.checksum(), shop.states()) == (before, ["published"])
    assert run("ingest", "orders", "-p", "2024-03", "--file", str(path)).exit_code == 0
    assert len(shop.numbers()) == len(bulky(6))


def limit(server: PostgresServer, size: int | None) -> None:
    """Let no file of the server grow beyond `size` bytes, as on a disk that is full; its log's have 16 MB.

    The processes that serve new connections inherit it. The server's own user may set it, not even root can elsewhere.
    """
    postmaster = (server.directory / "postmaster.pid").read_text().splitlines()[0]
    words = ["prlimit", f"--pid={postmaster}", f"--fsize={'unlimited' if size is None else size}:"]
    owner = Path("/proc", postmaster).stat()
    subprocess.run(words, user=owner.st_uid, group=owner.st_gid, check=True)


def test_a_full_disk_of_the_warehouse_is_told_and_costs_nothing(shop: Shop, postgres: PostgresServer) -> None:
    shop.ingest(MARCH)
    before = shop.checksum()
    path = shop.file(bulky(26))
    limit(postgres, 20 << 20)
    try:
        ended = run("ingest", "orders", "-p", "2024-03", "--file", str(path))
    finally:
        limit(postgres, None)
    assert ended.exit_code == 1
    assert "the warehouse stopped taking rows" in ended.output
    assert "could not extend file" in ended.output
    assert "run it again: nothing was published" in ended.output
    assert shop.checksum() == before
    assert run("ingest", "orders", "-p", "2024-03", "--file", str(path)).exit_code == 0
    assert len(shop.numbers()) == len(bulky(26))
    assert shop.staging() == []


def test_a_batch_that_was_held_is_published_by_nobody_but_a_person(shop: Shop) -> None:
    bad = "\n".join([HEADER, *MARCH, "8,2024-03-08,Hedy,eight,1,true,"])
    assert run("ingest", "orders", "-p", "2024-03", "--file", str(shop.file(bad))).exit_code == 1
    with connect(shop.settings) as connection:
        (held,) = ledger.batches(connection, state="held")
    assert run("ingest", "orders", "-p", "2024-03", "--file", str(shop.file(bad))).exit_code == 1
    assert run("batch", "release", held.batch_id, "--why", "the eighth is lost").exit_code == 0
    publish(load_settings(), shop.contract, held.batch_id)
    assert shop.numbers() == [1, 2, 3]
