"""Parquet files whose bytes depend on their rows alone."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.transforms.storage.parquet_files import ROWS_PER_GROUP, parquet_file, string_bytes

SCHEMA = pa.schema([("name", pa.string())])


def batches(rows: int, size: int) -> list[pa.RecordBatch]:
    names = [f"name {row % 977}" for row in range(rows)]
    return [
        pa.record_batch([names[start : start + size]], schema=SCHEMA)
        for start in range(0, rows, size)
    ]


def written(path: Path, parts: Iterable[pa.RecordBatch]) -> bytes:
    with parquet_file(str(path), SCHEMA, str(path.parent / "scratch")) as file:
        for batch in parts:
            file.write(batch)
    return path.read_bytes()


@pytest.mark.parametrize("rows", [0, 1, ROWS_PER_GROUP, 2 * ROWS_PER_GROUP + 5])
def test_the_same_bytes_for_other_batches(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "a.parquet"
    expected = written(path, batches(rows, 10_000))
    assert pq.read_table(path).num_rows == rows
    assert written(tmp_path / "b.parquet", batches(rows, 77_777)) == expected


def test_a_group_ends_by_its_bytes_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or 65,536 rows of 10 MB would be held."""
    monkeypatch.setattr("alignset.transforms.storage.parquet_files.BYTES_PER_GROUP", 1000)
    path = tmp_path / "a.parquet"
    expected = written(path, batches(500, 500))
    groups = [pq.read_metadata(path).row_group(n).num_rows for n in range(4)]
    assert all(100 <= rows <= 150 for rows in groups)  # names of 6 to 8 bytes
    assert pq.read_table(path).to_batches()[0]["name"][0].as_py() == "name 0"
    assert written(tmp_path / "b.parquet", batches(500, 7)) == expected


def test_an_attempt_that_fails_publishes_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"

    def endless() -> Iterator[pa.RecordBatch]:
        yield from batches(3, 3)
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        written(path, endless())
    assert [p.name for p in tmp_path.rglob("*")] == ["scratch"]


def test_a_part_of_a_batch_has_its_own_bytes() -> None:
    rows = pa.record_batch({"url": ["aaaa", "b", None, "cc"], "caption": ["d", "ee", "", "ü"]})
    assert string_bytes(rows).tolist() == [5, 8, 8, 12]
    assert string_bytes(rows.slice(1, 3)).tolist() == [3, 3, 7]
