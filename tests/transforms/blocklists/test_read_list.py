"""Files of entries: text, CSV, TSV and Parquet, as they come from others."""

import gzip
from collections import defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from alignset.transforms.blocklists.read_list import ListError, format_of_list, read_entries


def entries(path: Path) -> dict[str, list[tuple[str, int]]]:
    made = defaultdict(list)
    for part in read_entries(str(path), str(path)):
        made[part.kind] += zip(part.values.to_pylist(), part.places.to_pylist(), strict=True)
    return dict(made)


TEXT = """\ufeff# whom to keep out\r
host:a.example\r
\r
  URL: http://b.example/x\t
sha256:ab
host:c"""
EXPECTED = {
    "host": [("a.example", 2), ("c", 6)],
    "url": [("http://b.example/x", 4)],
    "sha256": [("ab", 5)],
}


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_lines_with_their_kind(tmp_path: Path, ending: str) -> None:
    body, path = TEXT.encode(), tmp_path / f"list.txt{ending}"
    packed = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}
    path.write_bytes(packed.get(ending, bytes)(body))
    assert entries(path) == EXPECTED


@pytest.mark.parametrize(("ending", "delimiter"), [(".csv", ","), (".tsv", "\t")])
def test_columns_by_their_names(tmp_path: Path, ending: str, delimiter: str) -> None:
    rows = [["added", " Host", "url "], ["2024", "a.example", ""], ["x", "", '"http://b/,\tx"']]
    path = tmp_path / f"list{ending}"
    path.write_text("\n".join(delimiter.join(row) for row in rows) + "\n")
    assert entries(path) == {"host": [("a.example", 1)], "url": [("http://b/,\tx", 2)]}


def test_parquet_of_strings_bytes_numbers_and_nulls(tmp_path: Path) -> None:
    columns = {
        "md5": pa.array([b"\x01" * 16, None], pa.binary()),
        "sha1": pa.array([None, b"\x02" * 20], pa.binary(20)),
        "sha256": pa.array([None, b"\x03" * 32], pa.large_binary()),
        "phash": pa.array([1, None], pa.uint64()),
        "host": pa.array(["a.example", "a.example"]).dictionary_encode(),
        "notes": [{"x": 1}, None],
    }
    pq.write_table(pa.table(columns), tmp_path / "list.parquet")
    assert entries(tmp_path / "list.parquet") == {
        "md5": [("01" * 16, 1)],
        "sha1": [("02" * 20, 2)],
        "sha256": [("03" * 32, 2)],
        "phash": [(f"{1:016x}", 1)],
        "host": [("a.example", 1), ("a.example", 2)],
    }


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"host:a\nexample.com\n" + b"x\n" * 999_999, "line 2: 'example.com' does not begin with"),
        (b"host:a\nhost:\n", "line 2: '' has nothing behind host:"),
        (b"host:\xff\xfe\n", "line 1: 'host:\ufffd\ufffd' is not UTF-8"),
        (b"host:" + b"a" * 70_000, "begins a line of more than 65,536 bytes"),
        (b"host:a\nurl:b/" + b"a" * 70_000, "line 2: 'url:b/"),
        (bytes(200_000), "begins a line of more than"),
        (b"url:b/" + b"a" * 70_000 + b"\nhost:c\n", "is longer than 65,536 bytes"),
    ],
)
def test_lines_that_are_no_entries(tmp_path: Path, body: bytes, said: str) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(body)
    with pytest.raises(ListError) as error:
        entries(path)
    assert said in str(error.value)
    assert len(str(error.value)) < 500
    if body.count(b"\n") > 9:
        assert "more are wrong, too)" in str(error.value)


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("a.csv", b"site,why\na,b\n", "has no column that is named host, domain"),
        ("a.csv", b"", "has no column"),
        ("a.csv", b"host,x\na\n", "cannot be read as csv"),
        ("a.parquet", b"host:a\n", "cannot be read as parquet"),
        ("a.csv", b"a" * 70_000, "no column .*; got 'a{80}'$"),
        ("a.txt.gz", b"\x1f\x8b\x08nothing", "cannot be read as text"),
    ],
)
def test_files_that_are_no_lists(tmp_path: Path, name: str, body: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(body)
    with pytest.raises(ListError, match=said):
        entries(tmp_path / name)


@pytest.mark.parametrize("kind", ["host", "text", "sha256"])
def test_parquet_of_strings_that_are_no_utf8(tmp_path: Path, kind: str) -> None:
    strings = pa.array([b"a.example", b"a\xffb"]).view(pa.string())
    pq.write_table(pa.table({kind: strings}), tmp_path / "list.parquet")
    with pytest.raises(ListError, match="cannot be read as parquet: Invalid UTF8 sequence"):
        entries(tmp_path / "list.parquet")


def test_formats_by_names() -> None:
    names = {
        "a": "text",
        "A.CSV.gz": "csv",
        "b.tsv": "tsv",
        "c.parquet": "parquet",
        "d.lst": "text",
    }
    assert {name: format_of_list(f"s3://b/{name}") for name in names} == names
