"""A file at a web address arrives whole, once, and without its credentials being told to anybody."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.contracts.command import run
from tests.ingest.web import Web, serving
from tests.shop import HEADER, MARCH, Shop, orders

from tidegate.errors import BusyError, ContractError, SourceError, UnavailableError
from tidegate.ingest import sources
from tidegate.ingest.delivery import Delivery
from tidegate.ingest.sources import download
from tidegate.ingest.sources.download import Download
from tidegate.settings import load_settings

SECRET = "s3cr%20et-token"
CONTENT = "\n".join([HEADER, *MARCH, *orders(4, 400)]).encode()


@pytest.fixture
def web() -> Iterator[Web]:
    with serving(Web(content=CONTENT)) as found:
        yield found


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_FIRST_PAUSE", 0.001)


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, web: Web) -> Shop:
    """A shop whose orders lie on the web server, and which has no warehouse: to fetch needs none."""
    monkeypatch.setenv("TIDEGATE_PROJECT", str(tmp_path / "project"))
    monkeypatch.setenv("TIDEGATE_HOME", str(tmp_path / "home"))
    found = Shop(load_settings(), tmp_path / "project")
    agree(found, f"{web.address}/orders/{{partition}}.csv")
    return found


def agree(shop: Shop, location: str, more: str = "") -> None:
    shop.agree(server=f"\n  - server: web-shop.eu\n    type: api\n    location: {location}{more}\n")


def fetch(shop: Shop, name: str = "one", partition: str = "2024-03") -> Delivery:
    contract = shop.contract
    spool = shop.root / "spool" / name / "in"
    return sources.fetch(load_settings(), contract, contract.sources[0], partition, spool)


def text(delivery: Delivery) -> bytes:
    (file,) = delivery.files
    return file.path.read_bytes()


def private(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("TIDEGATE_SOURCE_WEB_SHOP_EU_URL", address)


def test_a_file_is_fetched_by_its_partition_and_published(shop: Shop, web: Web) -> None:
    agree(shop, f"{web.address}/orders/{{partition}}.csv")
    web.content = "\n".join([HEADER, *MARCH]).encode()
    ended = run("ingest", "orders", "--partition", "2024-03")
    assert ended.exit_code == 0, ended.output
    assert shop.numbers() == [1, 2, 3]
    assert [path for path, _ in web.asked] == ["/orders/2024-03.csv"]
    assert shop.query("SELECT source_name FROM ops.batch") == [{"source_name": "2024-03.csv"}]


def test_the_format_of_a_file_without_an_ending_is_told_by_a_property(shop: Shop, web: Web) -> None:
    agree(shop, f"{web.address}/export?of={{partition}}", "\n    customProperties: [{property: format, value: jsonl}]")
    web.content = b'{"order_id": 7, "ordered_on": "2024-03-01", "customer": "Ada", "amount_euro": 1.10, "paid": true}\n'
    ended = run("ingest", "orders", "--partition", "2024-03")
    assert ended.exit_code == 0, ended.output
    assert shop.numbers() == [7]


def test_a_body_gzipped_on_the_way_is_the_same_file(remote: Shop, web: Web) -> None:
    web.gzipped = True
    assert text(fetch(remote)) == CONTENT
    assert text(fetch(remote, "again")) == CONTENT
    assert web.answers == [200, 304]


def test_a_file_is_sent_again_only_when_it_has_changed(remote: Shop, web: Web) -> None:
    first = fetch(remote)
    again = fetch(remote, "again")
    assert (again.sha256, again.name) == (first.sha256, first.name)
    asked = web.asked[1][1]
    assert (asked["If-None-Match"], asked["If-Modified-Since"]) == ('"1"', "Fri, 01 Mar 2024 00:00:00 GMT")
    web.content, web.etag = CONTENT + b"\n", '"2"'
    assert text(fetch(remote, "changed")) == CONTENT + b"\n"
    assert web.answers == [200, 304, 200]
    # Who reads the delivery before still has it.
    assert text(first) == CONTENT


def test_a_kept_file_that_was_damaged_is_downloaded_anew(remote: Shop, web: Web) -> None:
    fetch(remote)
    (body,) = remote.settings.home.glob("downloads/orders/*/body")
    body.write_bytes(body.read_bytes().replace(b"Ada", b"Eve"))
    assert text(fetch(remote, "again")) == CONTENT
    assert web.answers == [200, 200]


def test_a_cut_download_goes_on_where_it_was_cut(remote: Shop, web: Web) -> None:
    web.cuts = [5_000, 7_000]
    assert text(fetch(remote)) == CONTENT
    assert [headers["Range"] for _, headers in web.asked] == [None, "bytes=5000-", "bytes=12000-"]
    assert web.answers == [200, 206, 206]


def test_a_file_that_changes_while_it_is_cut_is_not_pieced_together(remote: Shop, web: Web) -> None:
    original = web.etag
    changed = CONTENT.replace(b"Ada", b"Eve")

    class Changing(list[int]):
        def pop(self, index: int = -1) -> int:  # type: ignore[override]
            web.etag, web.content = '"2"', changed
            return super().pop(index)

    web.cuts = Changing([5_000])
    assert text(fetch(remote)) == changed
    assert web.answers == [200, 200]
    assert web.asked[1][1]["If-Range"] == original


def test_what_several_attempts_have_brought_is_kept_for_the_next_run(remote: Shop, web: Web) -> None:
    web.cuts = [1_000] * 5
    with pytest.raises(UnavailableError, match=r"cut after 5,000 of .* tried 5 times: run this again later"):
        fetch(remote)
    assert text(fetch(remote, "again")) == CONTENT
    assert web.asked[-1][1]["Range"] == "bytes=5000-"


def test_a_server_that_does_not_know_parts_sends_the_whole_again(remote: Shop, web: Web) -> None:
    web.cuts, web.etag = [5_000], 'W/"weak"'
    assert text(fetch(remote)) == CONTENT
    # A weak ETag proves nothing of bytes: the date is the proof, which this server does not compare.
    assert web.asked[1][1]["If-Range"] == "Fri, 01 Mar 2024 00:00:00 GMT"
    assert web.answers == [200, 200]


def test_a_part_out_of_range_is_forgotten(remote: Shop, web: Web) -> None:
    web.cuts = [5_000, 0, 0, 0, 0]
    with pytest.raises(UnavailableError):
        fetch(remote)
    web.first = [(416, {})]
    assert text(fetch(remote, "again")) == CONTENT
    assert web.answers[-2:] == [416, 200]


def test_a_busy_server_is_asked_again_after_the_time_it_names(remote: Shop, web: Web) -> None:
    web.first = [(503, {"Retry-After": "1"}), (429, {})]
    assert text(fetch(remote)) == CONTENT
    assert web.answers == [503, 429, 200]


def test_a_server_that_stays_busy_is_transient(remote: Shop, web: Web) -> None:
    web.first = [(503, {})] * 5
    with pytest.raises(
        UnavailableError, match=r"/orders/2024-03.csv: the server answers with status 503; tried 5 times"
    ):
        fetch(remote)
    assert len(web.answers) == 5


def test_a_server_that_is_down_is_transient(remote: Shop) -> None:
    with serving(Web()) as gone:
        agree(remote, gone.address)
    ended = run("ingest", "orders", "-p", "2024-03")
    assert ended.exit_code == 1
    assert f"{gone.address}: the connection failed (ConnectError); tried 5 times" in ended.output


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (404, "/orders/2024-03.csv: the server has no such file (status 404); ask its owner to deliver it"),
        (410, "has no such file (status 410)"),
        (
            401,
            "refuses with status 401, expected 200; put an address with credentials into TIDEGATE_SOURCE_WEB_SHOP_EU_URL",
        ),
        (403, "put an address with credentials into TIDEGATE_SOURCE_WEB_SHOP_EU_URL"),
        (418, "refuses with status 418, expected 200"),
    ],
)
def test_a_refusal_is_final_and_says_what_to_do(remote: Shop, web: Web, status: int, sentence: str) -> None:
    web.first = [(status, {})]
    with pytest.raises(SourceError) as refused:
        fetch(remote)
    assert sentence in str(refused.value)
    assert web.answers == [status]


def test_a_redirect_is_followed_to_the_same_kind_of_address_only(remote: Shop, web: Web) -> None:
    web.first = [(302, {"Location": "/elsewhere.csv"})]
    assert text(fetch(remote)) == CONTENT
    assert [path for path, _ in web.asked] == ["/orders/2024-03.csv", "/elsewhere.csv"]
    web.first = [(302, {"Location": "ftp://127.0.0.1/etc/passwd"})]
    with pytest.raises(SourceError, match=r"redirects to an address of another kind \(ftp\), which is not followed"):
        fetch(remote, "ftp")
    web.first = [(307, {"Location": "/again"})] * 6
    with pytest.raises(SourceError, match="redirects more than 5 times"):
        fetch(remote, "circle")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_file_larger_than_allowed_is_not_downloaded(remote: Shop, web: Web, chunked: bool) -> None:
    web.chunked = chunked
    agree(remote, web.address, more="\n    customProperties: [{property: maxBytes, value: 1000}]")
    with pytest.raises(
        SourceError, match=r"expected at most 1,000; deliver it in parts, or raise the server's maxBytes"
    ):
        fetch(remote)
    assert [body.stat().st_size for body in remote.settings.home.glob("downloads/orders/*/body")] in ([], [0])


def test_two_downloads_of_one_file_do_not_mix(remote: Shop, web: Web) -> None:
    fetch(remote)
    (folder,) = remote.settings.home.glob("downloads/orders/*")
    with (
        Download(folder, web.address, web.address, "web", 1).alone(),
        pytest.raises(BusyError, match="is being downloaded by another process"),
    ):
        fetch(remote, "again")


@pytest.mark.parametrize("address", ["ftp://host/x", "file:///etc/passwd", "https:///x", "orders.csv"])
def test_an_address_that_is_not_http_is_refused(remote: Shop, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    agree(remote, address)
    with pytest.raises(ContractError, match=r"orders.odcs.yaml: server 'web-shop.eu': location: expected an address"):
        fetch(remote)
    private(monkeypatch, f"{address}?token={SECRET}")
    with pytest.raises(ContractError, match="TIDEGATE_SOURCE_WEB_SHOP_EU_URL: expected an address") as refused:
        fetch(remote)
    assert SECRET not in str(refused.value)


def test_credentials_from_the_environment_are_used_and_never_told(
    shop: Shop,
    web: Web,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    login = base64.b64encode(b"ada:s3cr et-token").decode()
    web.key = f"Basic {login}"
    agree(shop, f"{web.address}/orders/{{partition}}.csv")
    web.content = "\n".join([HEADER, *MARCH]).encode()
    host = web.address.removeprefix("http://")
    private(monkeypatch, f"http://ada:{SECRET}@{host}/private/{{partition}}.csv?key={SECRET}")
    told = []
    web.first = [(302, {"Location": "/moved.csv"})]
    told.append(run("ingest", "orders", "-p", "2024-03").output)
    assert shop.numbers() == [1, 2, 3]
    assert [path for path, _ in web.asked] == [f"/private/2024-03.csv?key={SECRET}", "/moved.csv"]
    for status in (404, 401, 418):
        web.first = [(status, {})]
        told.append(run("ingest", "orders", "-p", "2024-03").output)
        assert f"http://{host}/private/2024-03.csv: " in told[-1]
    web.first, web.content, web.etag = [], b"", '"empty"'
    told.append(run("ingest", "orders", "-p", "2024-03").output)
    rows = shop.query("SELECT b::text, s::text FROM ops.batch b JOIN ops.step s ON s.subject = b.batch_id")
    notes = [path.read_text() for path in Path(shop.settings.home).rglob("told.json")]
    everything = "\n".join([*told, caplog.text, str(rows), *notes])
    for secret in (SECRET, "s3cr et-token", login):
        assert secret not in everything


def test_credentials_do_not_follow_a_redirect_to_another_host(
    remote: Shop, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(Web(content=CONTENT)) as other:
        web.first = [(302, {"Location": f"{other.address}/x.csv"})]
        private(monkeypatch, web.address.replace("//", f"//ada:{SECRET}@") + "/x.csv")
        assert text(fetch(remote)) == CONTENT
        assert web.asked[0][1]["Authorization"]
        assert other.asked[0][1]["Authorization"] is None
