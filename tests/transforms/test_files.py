"""Gathering works in any store that fsspec knows; the one here lives in memory."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tidegate.settings import load_settings
from tidegate.transforms import files


def test_parts_in_an_object_store_become_one_sorted_file_there(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path)
    store = fsspec.filesystem("memory")
    for name, values in {"a": [3, 1], "b": [2]}.items():
        with store.open(f"/lake/made/_parts/{name}.parquet", "wb") as file:
            pq.write_table(pa.table({"n": values}), file)
    assert (
        files.count_rows(settings, ["memory://lake/made/_parts/a.parquet", "memory://lake/made/_parts/b.parquet"]) == 3
    )
    target = "memory://lake/made/it's.parquet"
    assert files.gather(settings, "memory://lake/made/_parts", target, pa.table({"n": pa.array([], pa.int64())})) == 3
    files.remove("memory://lake/made/_parts")
    with store.open("/lake/made/it's.parquet") as file:
        assert pq.read_table(file)["n"].to_pylist() == [1, 2, 3]
    assert [Path(path).name for path in store.find("/lake")] == ["it's.parquet"]


@pytest.mark.parametrize("url", ["s3://bucket/a/b.parquet", "file:///a b/c.parquet"])
def test_urls_are_left_as_they_are(url: str) -> None:
    assert files.spell(url) == url


def test_relative_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert files.spell("x.parquet") == f"file://{tmp_path}/x.parquet"
