"""Rows of every format and compression; a bad row is read as malformed and stops nothing."""

import gzip
import io
import json
import tarfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.find_inputs import find_files
from alignset.pipeline.inputs.find_splits import find_splits
from alignset.pipeline.inputs.readers import read_split, tar_samples
from alignset.pipeline.inputs.splits import Split
from alignset.pipeline.job import Job
from tests.support.command import fates, funnel, rejected, succeed
from tests.support.golden import TEXTS, Fate
from tests.support.hostile_tars import HOSTILE, header, padded, tar_of

Row = tuple[bytes | None, bytes | None, str | None]


def read(path: Path, batch_rows: int = 100) -> list[Row]:
    job = Job(input=str(path), output="o")
    batches = [
        batch
        for split in find_splits(job, find_files(job))
        for batch in read_split(split, batch_rows)
    ]
    assert all(len(batch) <= batch_rows for batch in batches)
    rows = [row for batch in batches for row in batch.to_pylist()]
    return [(row["url"], row["caption"], row.get("malformed")) for row in rows]


def good(*rows: tuple[bytes | None, bytes | None]) -> list[Row]:
    return [(*row, None) for row in rows]


def bad(*lines: bytes) -> list[Row]:
    return [(None, line, "unreadable_row") for line in lines]


def compressed(body: bytes, suffix: str) -> bytes:
    if suffix == ".zst":
        return pa.Codec("zstd").compress(body, asbytes=True)
    return gzip.compress(body) if suffix == ".gz" else body


CSV = b"""id,url,caption
1,http://a.org/1,plain
2,http://a.org/2,"a ""word"", two
lines"
too few
3,http://a.org/3,too,many
4,http://a.org/4,caf\xe9 is no UTF-8
5,http://a.org/5,caf\xc3\xa9 is
too,many\xe9,and,no UTF-8
6,,
7,NULL,12.50
8,http://a.org/8,""
"""
CSV_ROWS = good(
    (b"http://a.org/1", b"plain"),
    (b"http://a.org/2", b'a "word", two\nlines'),
    (b"http://a.org/4", b"caf\xe9 is no UTF-8"),
    (b"http://a.org/5", b"caf\xc3\xa9 is"),
    (b"", b""),
    (b"NULL", b"12.50"),
    (b"http://a.org/8", b""),
) + bad(b"too few", b"3,http://a.org/3,too,many", b"too,many\xe9,and,no UTF-8")

JSONL = b"""{"url": "http://a.org/1", "caption": "plain", "more": {"a": [1]}}

{"url": "http://a.org/2"}
{"caption": "caf\\u00e9 \xe2\x80\xa8", "url": null}
{"url": "http://a.org/4", "caption": "caf\xe9 is no UTF-8"}
"""
JSONL_ROWS = good(
    (b"http://a.org/1", b"plain"),
    (b"http://a.org/2", None),
    (None, "café \u2028".encode()),
    (b"http://a.org/4", b"caf\xe9 is no UTF-8"),
)
BAD_JSONL = [
    b'{"url": "http://a.org/5", "caption": 7}',
    b'{"url": "http://a.org/6", "caption": "cut',
    b"[1, 2]",
    b"null",
    b"caf\xe9",
    b'{"a":' * 100_000,
]


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "bad.jsonl"])
def test_text_formats(tmp_path: Path, name: str, suffix: str):
    body, rows = (JSONL, JSONL_ROWS) if name.endswith("jsonl") else (CSV, CSV_ROWS)
    if name == "a.tsv":
        # A TSV has no quoting: a lone mark is a character, and swallows nothing.
        quoted, lone = b'"a ""word"", two\nlines"', b'"a lone mark'
        body = body.replace(quoted, lone).replace(b'""', b"").replace(b",", b"\t")
        rows = [(row[0], lone, *row[2:]) if row[0] == b"http://a.org/2" else row for row in rows]
        rows = [tuple(v and v.replace(b",", b"\t") for v in row[:2]) + row[2:] for row in rows]
    if name == "bad.jsonl":
        body, rows = body + b"\n".join(BAD_JSONL), rows + bad(*BAD_JSONL)
    path = tmp_path / (name + suffix)
    path.write_bytes(compressed(body, suffix))
    assert read(path) == rows
    assert read(path, batch_rows=1) == rows


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_byte_order_mark_and_line_ends(tmp_path: Path, end: bytes):
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbfurl,caption" + end + b"http://a.org,b" + end + b"http://c.org,d")
    assert read(path) == good((b"http://a.org", b"b"), (b"http://c.org", b"d"))


def test_rows_across_blocks(tmp_path: Path, monkeypatch):
    """Files are parsed a block at a time; where one ends must not show."""
    for name in ("_READ", "BLOCK", "LONGEST_ROW"):
        monkeypatch.setattr(f"alignset.pipeline.inputs.text_files.{name}", 1000)
    pairs = [(f"http://a.org/{n}".encode(), f"text {n * n}".encode()) for n in range(500)]
    csv = b"".join(b"%s,%s\n" % pair for pair in pairs)
    (tmp_path / "a.csv").write_bytes(b"url,caption\n" + csv)
    lines = [
        json.dumps({"url": url.decode(), "caption": text.decode()}).encode() for url, text in pairs
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    assert read(tmp_path / "a.csv") == good(*pairs)
    assert read(tmp_path / "a.jsonl") == good(*pairs)
    lines[250] = lines[250][:-2]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    expected = good(*pairs)
    expected[250:251] = bad(lines[250])
    assert read(tmp_path / "a.jsonl") == expected


def test_a_stray_line_does_not_choose_the_columns(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    lines = b'{"src": "http://a.org", "alt": "b"}\n' * 20
    path.write_bytes(b'{"url": "elsewhere", "caption": "other"}\n' + lines)
    assert read(path) == good((None, None), *[(b"http://a.org", b"b")] * 20)


@pytest.mark.parametrize(
    "kind",
    [
        *(pa.large_string(), pa.string_view(), pa.binary(4)),
        *(pa.dictionary(pa.int32(), pa.string()), pa.dictionary(pa.int8(), pa.binary())),
    ],
    ids=str,
)
def test_parquet_columns_of_text(tmp_path: Path, kind: pa.DataType):
    values = [b"caf\xe9" if "binary" in str(kind) else b"cafe", None, b"plan"]
    if pa.types.is_dictionary(kind):
        texts = pa.array(values).cast(kind.value_type).dictionary_encode()
    else:
        texts = pa.array(values, kind) if kind == pa.binary(4) else pa.array(values).cast(kind)
    pq.write_table(
        pa.table({"URL": ["http://a.org", "b", None], "TEXT": texts}), tmp_path / "a.parquet"
    )
    urls = (b"http://a.org", b"b", None)
    assert read(tmp_path / "a.parquet") == good(*zip(urls, values, strict=True))


@pytest.mark.parametrize("values", [[["x"]], [{"a": "x"}]])
def test_parquet_columns_that_hold_no_text(tmp_path: Path, values: list):
    pq.write_table(pa.table({"url": ["a"], "caption": values}), tmp_path / "a.parquet")
    with pytest.raises(UsageError, match="column 'caption' holds"):
        read(tmp_path / "a.parquet")


def test_every_row_of_every_format_ends_kept_or_rejected_once(tmp_path: Path):
    """One command over a folder of all formats: as many rows come out as went in."""
    folder, parts = tmp_path / "in", [(f"http://a.org/{n}", text) for n, text in enumerate(TEXTS)]
    folder.mkdir()
    pq.write_table(
        pa.table(dict(zip(("url", "caption"), zip(*parts[:30], strict=True), strict=True))),
        folder / "a.parquet",
    )
    lines = b"".join(f"9,{url},{text}\n".encode() for url, text in parts[30:60])
    for number, suffix in enumerate(["", ".gz", ".zst"]):
        (folder / f"b{number}.csv{suffix}").write_bytes(compressed(CSV + lines, suffix))
        body = "".join(
            json.dumps({"caption": text, "url": url}) + "\n" for url, text in parts[60:]
        ).encode()
        more = b"\n".join(BAD_JSONL) if number else b""
        (folder / f"c{number}.jsonl{suffix}").write_bytes(compressed(body + more, suffix))
    succeed(folder, tmp_path / "set", "--text_only", "--batch_rows=7", "--language=")

    unreadable = [row[1].decode("utf-8", "replace") for row in CSV_ROWS if row[2]] * 3
    unreadable += [line.decode("utf-8", "replace") for line in BAD_JSONL] * 2
    captions = Counter(
        f.caption for f in rejected(tmp_path / "set") if f.detail == "unreadable_row"
    )
    assert captions == Counter(unreadable)
    rows = fates(tmp_path / "set")
    assert rows.total() == 30 + 3 * (len(CSV_ROWS) + 30) + 3 * (len(TEXTS) - 60) + 2 * len(
        BAD_JSONL
    )
    assert rows.total() == funnel(tmp_path / "set")["steps"][0]["seen"]
    assert all(rows[Fate(url, text)] == 1 for url, text in parts)
    copies = {Fate(url, text, "duplicate_pair"): 2 for url, text in parts[30:]}
    assert copies.items() <= rows.items()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_shard_is_read_or_one_line(tmp_path: Path, name: str):
    tar, expected = HOSTILE[name]
    path = tmp_path / "a.tar"
    path.write_bytes(tar)
    if isinstance(expected, str):
        with pytest.raises(RuntimeError, match=rf"cannot read .*a\.tar to its end: .*{expected}"):
            list(read_split(Split(str(path), "webdataset"), 100))
    else:
        plain = [(name, size) for name, size, plain in expected if plain]
        keys = [name for n, (name, _) in enumerate(plain) if name != plain[n - 1][0] or not n]
        assert len(read(path)) == len(keys)


NO_PAIRS = {
    "no JSON": b"{",
    "nested": b"[" * 100_000,
    "nested objects": b'{"a":' * 100_000,
    "no object": b"7",
    "a list": b'["url", "caption"]',
    "no UTF-8": b'{"url": "\xff"}',
    "NUL": bytes(1000),
    "a long number": b'{"url": %s}' % (b"9" * 100_000),
    "numbers": b'{"url": 1, "caption": NaN, "page_url": 1e999}',
    "too long": b'{"url": "http://a.org", "caption": "%s"}' % (b"a" * (1 << 22)),
}


def test_text_files_of_shards_that_are_none_give_rows_without_a_pair(tmp_path: Path):
    files = {f"{n}.json": body for n, body in enumerate(NO_PAIRS.values())}
    (tmp_path / "a.tar").write_bytes(tar_of(files))
    assert read(tmp_path / "a.tar") == good(*[(None, None)] * len(files))


def test_a_caption_of_bytes_of_any_kind_is_read_as_it_is(tmp_path: Path):
    texts = [bytes(1000), b"\xff\xfe", b"a" * (1 << 25), b"a" * ((1 << 25) + 1), b""]
    files = {f"{n}.txt": body for n, body in enumerate(texts)}
    (tmp_path / "a.tar").write_bytes(tar_of(files))
    expected = [*texts[:3], None, None]
    captions = [caption or None for _, caption, _ in read(tmp_path / "a.tar")]
    assert captions == expected


def test_tars_behind_each_other_give_all_their_samples(tmp_path: Path):
    """Names that repeat, or are not UTF-8, and endings in capitals too."""
    bodies = [{"a.jpg": b"0", "a.TXT": b"a dog"}, {"a.jpg": b"1", "a.txt": b"a cat"}]
    bodies.append({"\udcff.JPG": b"2", "\udcff.txt": b"a cow"})
    tar = b"".join(tar_of(files, tarfile.GNU_FORMAT) for files in bodies)
    (tmp_path / "0.tar").write_bytes(tar)
    (batch,) = read_split(Split(str(tmp_path / "0.tar"), "webdataset"), 100)
    assert batch["caption"].to_pylist() == [b"a dog", b"a cat", b"a cow"]
    assert [tar[at] for at in batch["source_at"].to_pylist()] == [*b"012"]


@pytest.mark.parametrize("kind", [b"S", b"2"])
def test_an_image_that_is_sparse_or_a_link_is_not_missing(kind: bytes) -> None:
    texts = header(b"a.txt", 3) + padded(b"abc") + bytes(1024)
    (sample,) = tar_samples(io.BytesIO(header(b"a.jpg", 0, kind) + texts))
    assert (sample["source_at"], sample["source_size"], sample["caption"]) == (-1, 0, b"abc")
    second = header(b"a.png", 3) + padded(b"png")
    (sample,) = tar_samples(io.BytesIO(second + header(b"a.jpg", 0, kind) + texts))
    assert (sample["source_at"], sample["source_size"]) == (512, 3)
