"""Landing in a bucket: the same rows as in a folder, from a server that checks who asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.ingest.store import BUCKET, s3_server
from tests.shop import MARCH, Shop, orders
from tests.transforms.servers import sail_server

from tidegate.errors import TerminalError, TidegateError, UnavailableError
from tidegate.ingest.land import land
from tidegate.observe import logs
from tidegate.settings import load_settings
from tidegate.transforms import run

LANDING = f"s3://{BUCKET}/landing"


@pytest.fixture(scope="module")
def store() -> Iterator[dict[str, str]]:
    with s3_server() as variables:
        yield variables


@pytest.fixture
def _reached(store: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The store is reached by the environment; clients that knew another one are forgotten."""
    from s3fs import S3FileSystem

    for name, value in store.items():
        monkeypatch.setenv(name, value)
    S3FileSystem.clear_instance_cache()
    yield
    S3FileSystem.clear_instance_cache()


@pytest.fixture
def bucket(shop: Shop, _reached: None, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """The shop, which lands in a bucket."""
    monkeypatch.setenv("TIDEGATE_LANDING_URL", LANDING)
    return Shop(load_settings(), shop.root)


def landed(prefix: str) -> list[str]:
    from upath import UPath

    return sorted(str(path) for path in UPath(prefix).rglob("*") if path.is_file())


def test_a_bucket_publishes_the_rows_that_a_folder_does(stocked: Shop, bucket: Shop) -> None:
    batch = bucket.ingest(MARCH)
    assert batch.landing_url == f"{LANDING}/orders/2024-03/{batch.batch_id}.parquet"
    assert batch.landing_url in landed(f"{LANDING}/orders")
    assert stocked.query("SELECT landing_url FROM ops.batch")[0]["landing_url"].startswith("file:")
    assert bucket.published() == stocked.published()
    assert bucket.checksum() == stocked.checksum()


def test_the_same_delivery_lands_once_and_a_correction_beside_it(bucket: Shop) -> None:
    first = bucket.ingest(orders(1, 9))
    before = bucket.checksum(), landed(LANDING)
    assert bucket.ingest(orders(1, 9)) == first
    assert (bucket.checksum(), landed(LANDING)) == before
    second = bucket.ingest(orders(2, 9))
    assert set(landed(LANDING)) == {*before[1], second.landing_url}
    assert bucket.numbers() == list(range(2, 10))


def test_a_transform_reads_and_writes_in_a_bucket(
    bucket: Shop, store: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bucket.root / "transforms").mkdir()
    (bucket.root / "transforms/made.py").write_text(
        '"""made: for a test."""\nINPUTS = ("orders",)\ndef transform(orders):\n    return orders.where("paid")\n'
    )
    batch = bucket.ingest(orders(1, 9))
    (tmp_path / "sail").mkdir()
    with sail_server(tmp_path / "sail") as (address, _):
        monkeypatch.setenv("TIDEGATE_SPARK_REMOTE", address)
        made = run(load_settings(), "made", {"orders": [batch.landing_url]}, f"{LANDING}/made")
        assert (made.path, made.rows) == (f"{LANDING}/made/made.parquet", 4)
        assert landed(f"{LANDING}/made") == [made.path]
        # Made anew, it is the same file: the rows, not the store's time, decide.
        content = digest(made.path)
        assert digest(run(load_settings(), "made", {"orders": [batch.landing_url]}, f"{LANDING}/made").path) == content


def digest(url: str) -> bytes:
    from upath import UPath

    return bytes(UPath(url).read_bytes())


@pytest.mark.parametrize(
    ("changes", "kind", "told"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "canary-wrong"}, TerminalError, "signature"),
        ({"AWS_ACCESS_KEY_ID": "AKIANOBODY"}, TerminalError, "does not exist"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, TerminalError, "Unable to locate credentials"),
        ({"TIDEGATE_LANDING_URL": "s3://elsewhere/landing"}, TerminalError, "bucket does not exist"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, UnavailableError, "does not answer"),
    ],
)  # fmt: skip
def test_a_store_that_refuses_is_a_sentence_without_a_secret_and_nothing_is_taken_in(
    bucket: Shop, store: dict[str, str], monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str], kind: type[TidegateError], told: str,
) -> None:  # fmt: skip
    for name, value in changes.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    settings = load_settings()
    with pytest.raises(kind, match=told) as refused:
        land(settings, bucket.contract, "2024-03", bucket.file(MARCH))
    sentence = str(refused.value)
    assert sentence.startswith(f"{settings.landing}/orders/2024-03/")
    assert "TIDEGATE_LANDING_URL" in sentence
    assert {store["AWS_SECRET_ACCESS_KEY"], "canary-wrong"} & {word.strip(".,") for word in sentence.split()} == set()
    assert bucket.states() == []


def test_a_batch_whose_file_is_gone_from_the_bucket_says_so(bucket: Shop) -> None:
    from upath import UPath

    from tidegate.ingest.stage import stage

    batch = land(bucket.settings, bucket.contract, "2024-03", bucket.file(orders(20, 25)))
    UPath(batch.landing_url).unlink()
    with pytest.raises(TerminalError, match="cannot be reached"):
        stage(bucket.settings, bucket.contract, batch.batch_id)
    assert bucket.states() == ["landed"]


def test_the_stores_secret_is_one_that_logs_hide(bucket: Shop, store: dict[str, str]) -> None:
    assert store["AWS_SECRET_ACCESS_KEY"] in logs.secrets(bucket.settings)
