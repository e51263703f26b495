"""The page that a pair is from goes with it, whatever the input, to every file of the output."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.command import digests, samples, succeed
from tests.support.picture_files import encoded, photograph
from tests.support.small_web import SmallWeb

ALL = ("--language=", "--min_words=1", "--text_only")
IMAGE = "http://a.example/b.jpg"
ROWS = [
    {"url": IMAGE, "caption": "a dog", "page_url": "http://a.example/dogs"},
    {"url": "ftp://a.example", "caption": "a cat", "page_url": "http://a.example/cats"},
    {"url": IMAGE, "caption": "a rat", "page_url": None},
]


def rows(output: Path, folder: str) -> list[dict]:
    tables = [pq.read_table(path) for path in sorted(output.glob(f"{folder}/*.parquet"))]
    return pa.concat_tables(tables).to_pylist() if tables else []


def pages(output: Path, folder: str) -> dict[str, str | None]:
    return {row["caption"]: row["page_url"] for row in rows(output, folder)}


def write(path: Path, rows: list[dict]) -> None:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        comma = "\t" if path.suffix == ".tsv" else ","
        lines = [list(rows[0])] + [[value or "" for value in row.values()] for row in rows]
        path.write_text("".join(comma.join(line) + "\n" for line in lines))


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_every_table_may_have_it(tmp_path: Path, suffix: str):
    write(tmp_path / f"a.{suffix}", ROWS)
    succeed(tmp_path / f"a.{suffix}", tmp_path / "set", *ALL)
    kept = {"a dog": "http://a.example/dogs", "a rat": None}
    assert pages(tmp_path / "set", "pairs") == kept
    assert pages(tmp_path / "set", "rejected") == {"a cat": "http://a.example/cats"}


def test_a_page_that_is_no_text_harms_no_pair(tmp_path: Path):
    lines = [
        b'{"url": "http://a.example/1", "caption": "a dog", "page_url": 7}',
        b'{"url": "http://a.example/2", "caption": "a cat", "page_url": "a", "page_url": "b"}',
        b'{"url": "http://a.example/3", "caption": "a rat", "page_url": "http://p.example/\xff"}',
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    succeed(tmp_path / "a.jsonl", tmp_path / "set", *ALL)
    assert pages(tmp_path / "set", "pairs") == {
        "a dog": None,
        "a cat": None,
        "a rat": "http://p.example/\ufffd",
    }
    table = pa.table({"url": [IMAGE], "caption": ["a dog"], "page_url": [[1, 2]]})
    pq.write_table(table, tmp_path / "b.parquet")
    succeed(tmp_path / "b.parquet", tmp_path / "other", *ALL)
    assert pages(tmp_path / "other", "pairs") == {"a dog": None}


def test_shards_have_it_and_hand_it_on(web: SmallWeb, tmp_path: Path):
    web.files |= {f"/page-column/{n}": encoded(photograph(n), "JPEG") for n in range(3)}
    rows = [
        {"url": f"{web.url}/page-column/{n}", "caption": f"a dog {n}", "page_url": f"http://p/{n}"}
        for n in range(4)
    ]
    write(tmp_path / "a.parquet", rows)
    flags = ("--language=", "--min_words=1", "--min_image_side=1", "--allow_private_addresses")
    succeed(tmp_path / "a.parquet", tmp_path / "set", *flags)
    expected = {f"a dog {n}": f"http://p/{n}" for n in range(3)}
    assert pages(tmp_path / "set", "shards") == expected
    assert pages(tmp_path / "set", "rejected") == {"a dog 3": "http://p/3"}
    said = [json.loads(files["json"]) for files in samples(tmp_path / "set").values()]
    assert {row["caption"]: row["page_url"] for row in said} == expected
    succeed(tmp_path / "set", tmp_path / "again", *flags)
    assert pages(tmp_path / "again", "shards") == expected
    assert {
        name: digest
        for name, digest in digests(tmp_path / "again").items()
        if name.startswith("shards/") and not name.endswith("_stats.json")
    } == {
        name: digest
        for name, digest in digests(tmp_path / "set").items()
        if name.startswith("shards/") and not name.endswith("_stats.json")
    }
