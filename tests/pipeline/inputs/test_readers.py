"""Rows of every format and compression, of bad bytes too: each row is a pair or has a detail, a
broken file gives what lies before, and other files are refused in one line. docs/inputs.md is
this in words."""

import decimal
import gzip
import io
import json
import tarfile
import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs import splits as splits_module
from alignset.pipeline.inputs import text_files
from alignset.pipeline.inputs.find_inputs import find_files, find_splits
from alignset.pipeline.inputs.readers import BATCH_BYTES, read_split, tar_samples
from alignset.pipeline.inputs.row_groups import FREE_BYTES, MOST_TIMES, check_footer, string_sizes
from alignset.pipeline.inputs.splits import CarriedColumn, Split
from alignset.pipeline.settings import Job
from alignset.pipeline.shown_texts import escape_controls
from alignset.transforms.columns.carried import CARRIED, plain_type
from alignset.transforms.pairs.measure_pairs import measure
from alignset.transforms.storage.broken_files import BrokenInputError, FileFault
from alignset.transforms.storage.parquet_files import read_footer
from tests.support.hostile_tars import HOSTILE, header, padded, tar_of

Row = tuple[bytes | None, bytes | None, str | None]
GOOD = b'{"url": "http://a.org/0", "caption": "some text"}\n'
TABLE = b"url,caption\n"
ROW = b"http://a.org/0,some text\n"
UNREADABLE, NOT_UTF8, NO_TEXT, NO_URL = "unreadable_row", "not_utf8", "no_text", "no_url"


def splits_of(source: object, **flags: Any) -> list[Split]:
    job = Job(input=str(source), output="o", **flags)
    return find_splits(job, find_files(job))


def rows_of(splits: list[Split], batch_rows: int, *, skip_broken: bool = False) -> list[Row]:
    batches = [b for s in splits for b in read_split(s, batch_rows, skip_broken=skip_broken)]
    assert all(len(batch) <= batch_rows for batch in batches)
    rows = [row for batch in batches for row in batch.to_pylist()]
    return [(row["url"], row["caption"], row.get("malformed")) for row in rows]


def read(path: Path, batch_rows: int = 100) -> list[Row]:
    return rows_of(splits_of(path), batch_rows)


def read_broken(path: Path) -> tuple[list[tuple], list[str]]:
    """The pairs of a file beside a good one, and the details of what is broken: the same in any
    batches."""
    good = path.with_name("good.csv")
    good.write_bytes(TABLE + ROW)
    splits = [split for split in splits_of(f"{path},{good}") if split.path == str(path)]
    seen = [rows_of(splits, rows, skip_broken=True) for rows in (1, 7, 100_000)]
    assert seen[0] == seen[1] == seen[2]
    told = [row for row in seen[0] if row[0] == str(path).encode()]
    pairs = seen[0][: len(seen[0]) - len(told)]
    assert seen[0] == pairs + told
    return [row[:2] for row in pairs], [row[2] or "" for row in told]


def good(*rows: tuple[bytes | None, bytes | None]) -> list[Row]:
    return [(*row, None) for row in rows]


def bad(*lines: bytes) -> list[Row]:
    return [(None, line, UNREADABLE) for line in lines]


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


def test_rows_across_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Files are parsed a block at a time; where one ends must not show, nor stray quotation marks,
    nor a row longer than a block."""
    for name in ("_READ", "BLOCK"):
        monkeypatch.setattr(text_files, name, 1000)
    texts = [b"text %d" % (n * n) for n in range(500)]
    texts[150] += b" long" * 1000
    texts[200] = b'5" nail, in a "quotation"\nof two\n\nlines'
    texts[210] = b'1" nail'
    texts[211] = b'a lone " mark'
    pairs = [(b"http://a.org/%d" % n, text) for n, text in enumerate(texts)]
    rows = [b'%s,"%s"' % (url, text.replace(b'"', b'""')) for url, text in pairs]
    rows[210:212] = [b"%s,%s" % pair for pair in pairs[210:212]]  # each a mark within a value
    rows[10] = rows[490] = b"bad"
    (tmp_path / "a.csv").write_bytes(TABLE + b"\n".join(rows))
    found, expected = read(tmp_path / "a.csv", 7), good(*pairs[:10], *pairs[11:490], *pairs[491:])
    assert [row for row in found if not row[2]] == expected
    assert [row for row in found if row[2]] == bad(b"bad", b"bad")
    urls, captions = ([text.decode() for text in of] for of in zip(*pairs, strict=True))
    records = ({"url": u, "caption": text} for u, text in zip(urls, captions, strict=True))
    lines = [json.dumps(record).encode() for record in records]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    assert read(tmp_path / "a.jsonl") == good(*pairs)
    lines[250] = lines[250][:-2]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    assert read(tmp_path / "a.jsonl") == good(*pairs[:250]) + bad(lines[250]) + good(*pairs[251:])


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


def parquet(texts: Any, **more: Any) -> bytes:
    urls = [f"http://a.org/{n}" for n in range(len(texts))]
    sink = io.BytesIO()
    pq.write_table(pa.table({"url": urls, "caption": texts}), sink, **more)
    return sink.getvalue()


def line(caption: bytes, url: bytes = b"http://a.org/1") -> bytes:
    return b'{"url": "%s", "caption": %s}\n' % (url, caption)


NO_PAIRS = {  # text files of a shard
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
# Name of the file, its bytes, how many pairs are kept, and the details of the rejected.
ROWS: dict[str, tuple[str, bytes, int, list[str | None]]] = {
    "decimals": ("a.parquet", parquet([decimal.Decimal("1.5"), None]), 1, [NO_TEXT]),
    "no text at all": ("a.parquet", parquet(pa.nulls(2)), 0, [NO_TEXT] * 2),
    "bytes": ("a.parquet", parquet([b"caf\xe9", b"\xed\xa0\x80", b"cafe"]), 1, [NOT_UTF8] * 2),
    "repeats": ("a.parquet", parquet(["a b", None] * 5000), 5000, [NO_TEXT] * 5000),
    "CR": ("a.csv", (TABLE + ROW).replace(b"\n", b"\r"), 1, []),
    "NUL": ("a.csv", TABLE + ROW + b"\0\n", 1, [UNREADABLE]),
    "ragged": ("a.csv", TABLE + b"x\n" + ROW + b"x,y,z\n", 1, [UNREADABLE] * 2),
    "blank lines": ("a.csv", TABLE + b"\n" * (2 << 20) + ROW + b",\n", 1, [NO_URL]),
    "long header": (
        "a.csv",
        b"url,caption,%s\n" % (b"x" * (2 << 20)) + b"http://a.org,b,\n",
        1,
        [],
    ),
    "long row": ("a.csv", TABLE + b"http://a.org,%s\n" % (b"x" * 18_000_000) + ROW, 2, []),
    "long line": ("a.jsonl", line(b'"%s"' % (b"x" * 18_000_000)) + GOOD, 2, []),
    # Without a look at its beginning, pyarrow ends the process by a segmentation fault.
    "null first": ("a.jsonl", b"null\n" + GOOD, 1, [UNREADABLE]),
    "marked, null first": ("a.jsonl", b"\xef\xbb\xbfnull\n" + GOOD, 1, [UNREADABLE]),
    "marked, one bad": ("a.jsonl", b"\xef\xbb\xbf" + GOOD + b"bad\n", 1, [UNREADABLE]),
    "braces": ("a.jsonl", GOOD + b'{\n{}\n}\n{"a"}\n[{}]\n', 1, [UNREADABLE] * 4 + [NO_URL]),
    "scalars": ("a.jsonl", GOOD + b'null\n7\n"x"\n[]\n', 1, [UNREADABLE] * 4),
    "two on a line": ("a.jsonl", GOOD + GOOD.strip() * 2 + b"\n", 1, [UNREADABLE]),
    "over two lines": ("a.jsonl", GOOD + line(b'"x"').replace(b" ", b"\n", 1), 1, [UNREADABLE] * 2),
    "text twice": ("a.jsonl", GOOD + line(b'"x", "caption": "y"'), 1, [UNREADABLE]),
    "another field twice": ("a.jsonl", b"bad\n" + line(b'"x", "n": 1, "n": []'), 1, [UNREADABLE]),
    "no text": ("a.jsonl", GOOD + line(b"7") + line(b"NaN") + line(b"[]"), 1, [UNREADABLE] * 3),
    "huge number": ("a.jsonl", b"bad\n" + line(b'"x", "n": ' + b"9" * 5000), 1, [UNREADABLE]),
    "surrogates": (
        "a.jsonl",
        line(rb'"a \ud800"') + line(rb'"\udcc3\udca9"') + line(rb'"a \ud83d\ude00"'),
        1,
        [NOT_UTF8] * 2,
    ),
    "deep sidecar": (
        "a.tar",
        tar_of({"1.json": b"[" * 100_000, "2.json": GOOD, "3.txt": b"x"}),
        1,
        [NO_URL] * 2,
    ),
    "sidecars that are none": (
        "a.tar",
        tar_of({f"{n}.json": body for n, body in enumerate(NO_PAIRS.values())}),
        0,
        [NO_URL] * len(NO_PAIRS),
    ),
    "marked, CRLF": ("a.csv", b"\xef\xbb\xbf" + (TABLE + ROW).replace(b"\n", b"\r\n"), 1, []),
    "a stray line first": (
        "a.jsonl",
        b'{"url": "elsewhere", "caption": "other"}\n'
        + b'{"src": "http://a.org", "alt": "b"}\n' * 20,
        1,
        [NO_URL] + [None] * 19,
    ),
}


def outcome(path: Path) -> tuple[int, list[str | None]]:
    """Counts the distinct well-formed pairs of a file, and lists the details of the others, None
    for repeated pairs."""
    keys, details = set[int](), list[str | None]()
    for split in splits_of(path):
        for batch in read_split(split, 1000):
            pairs = measure(batch)
            for key, fault in zip(pairs.key.tolist(), pairs.malformed.to_pylist(), strict=True):
                if fault or key in keys:
                    details.append(fault)
                else:
                    keys.add(key)
    return len(keys), details


@pytest.mark.parametrize("case", ROWS)
def test_every_row_is_well_formed_or_has_a_detail(tmp_path: Path, case: str):
    name, body, good, details = ROWS[case]
    (tmp_path / name).write_bytes(body)
    found, faults = outcome(tmp_path / name)
    assert (found, Counter(faults)) == (good, Counter(details))


def _damaged(body: bytes) -> bytes:
    """With another letter in the middle of a page that nothing but its checksum protects."""
    at = body.index(b"some text 50 ")
    return body[:at] + b"S" + body[at + 1 :]


PLAIN = parquet(
    [f"some text {n} " for n in range(100)],
    compression="none",
    use_dictionary=False,
    write_page_checksum=True,
)
ZONE = pa.array([0], pa.timestamp("us", "Mars/Phobos"))
TERMINAL = pa.BufferOutputStream()
pq.write_table(pa.table({"u\nrl\x1b[31m\u202e": ["x"]}), TERMINAL)
MANY = pa.BufferOutputStream()
pq.write_table(pa.table({f"c{n}": ["x"] for n in range(1000)}), MANY)
# Name of the file, its bytes, the exit status, and what the one line says.
REFUSED: dict[str, tuple[str, bytes, int, str]] = {
    "a zone that is none": ("a.parquet", parquet(ZONE), 2, "timezone"),
    "a text of lists": ("a.parquet", parquet([["x"]]), 2, "column 'caption' holds"),
    "a text of structs": ("a.parquet", parquet([{"a": "x"}]), 2, "column 'caption' holds"),
    "a name for terminals": ("a.parquet", TERMINAL.getvalue(), 2, r"u\nrl\x1b[31m\u202e"),
    "many names": ("a.parquet", MANY.getvalue(), 2, "and 980 more"),
    "a damaged page": ("a.parquet", _damaged(PLAIN), 1, "replace the file"),
    "UTF-16": ("a.csv", (TABLE + ROW).decode().encode("utf-16"), 2, "not UTF-8"),
    "UTF-16, unmarked": ("a.jsonl", GOOD.decode().encode("utf-16-le"), 2, "not UTF-8"),
    "gzip by another name": ("a.csv", gzip.compress(TABLE + ROW), 2, "decompress"),
    "Latin-1 in the header": ("a.csv", b"url,caf\xe9\n" + ROW, 2, "not UTF-8"),
    "no first line": ("a.csv", b"\n" + TABLE + ROW, 2, "must name the columns"),
    "a header of two lines": ("a.csv", b'url,"cap\ntion"\n' + ROW, 2, "line break"),
    "a header without end": ("a.csv", b"x" * (34 << 20), 2, "first 32 MiB"),
    "thousands of columns": ("a.csv", TABLE[:-1] + b",x" * 9999 + b"\n" + ROW, 2, "at most 10,000"),
    "never closed": ("a.csv", TABLE + b'http://a.org/7,"some\n' + ROW, 1, "http://a.org/7"),
    "never closed, by the end": ("a.csv", TABLE + ROW + b'x,"some', 1, "quotation mark"),
    "a row of 70 MiB": ("a.csv", TABLE + b"x" * (70 << 20) + b"\n", 1, "longer than 32 MiB"),
    "a line of 50 MiB": ("a.jsonl", GOOD * 2 + b"x" * (50 << 20), 1, "longer than 32 MiB"),
    "an array": ("a.jsonl", b"[\n7\n]", 2, "one object on each line"),
    "compressed shards": ("a.tar.gz", gzip.compress(tar_of({"1.txt": b"x"})), 2, "decompress it"),
    "compressed Parquet": ("a.parquet.gz", gzip.compress(PLAIN), 2, "decompress it"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, case: str):
    name, body, status, says = REFUSED[case]
    (tmp_path / name).write_bytes(body)
    with pytest.raises(UsageError if status == 2 else BrokenInputError) as refused:
        outcome(tmp_path / name)
    line = escape_controls(str(refused.value))
    assert says in line
    assert len(line) < 700


def test_a_file_of_line_ends_takes_memory_by_its_bytes(tmp_path: Path):
    (tmp_path / "a.csv").write_bytes(TABLE + b"\r" * 1_000_000)
    tracemalloc.start()
    assert not text_files.header_columns(Split(str(tmp_path / "a.csv"), "csv"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


def test_columns_that_are_told(tmp_path: Path):
    for name, body in (("a.csv", TABLE + ROW), ("a.jsonl", GOOD)):
        (tmp_path / name).write_bytes(body)
        with pytest.raises(UsageError, match="both URL and text; pass another --text_column"):
            splits_of(tmp_path / name, url_column="caption")
    few = tmp_path / "few.jsonl"
    few.write_bytes(b'{"url": "http://a.org"}\n' * 50 + GOOD)
    with pytest.raises(UsageError, match="has no column named caption"):
        splits_of(few)
    (split,) = splits_of(few, text_column="caption")
    assert (split.url_column, split.text_column) == ("url", "caption")


def test_a_row_of_parquet_that_is_too_long_is_a_reason(tmp_path: Path):
    """A row of 41 MiB, which as JSON would end the command, is dropped; its neighbours are read."""
    texts = ["some text 1", "x" * (41 << 20), "some text 2", "x" * (39 << 20)]
    urls = [f"http://a.org/{n}" for n in range(4)]
    pq.write_table(pa.table({"url": urls, "caption": texts}), tmp_path / "a.parquet")
    split = Split(str(tmp_path / "a.parquet"), "parquet", "", "url", "caption", (0,))
    rows = [row for batch in read_split(split, 100) for row in batch.to_pylist()]
    assert [row["url"].decode() for row in rows] == urls
    assert [row.get("malformed") for row in rows] == [None, "unreadable_row", None, None]
    assert rows[1]["caption"] is None
    assert [len(row["caption"] or b"") for row in rows] == [11, 0, 11, 39 << 20]


KINDS = [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary()]


@pytest.mark.parametrize(
    ("kind", "dictionary"), [*((kind, True) for kind in KINDS), (pa.string(), False)], ids=str
)
def test_batches_are_cut_by_bytes(tmp_path: Path, kind: pa.DataType, dictionary: bool):
    """40 rows of 2 MB are never one batch; of a dictionary neither, whose file is small."""
    texts = [b"%d" % (n % 3) * 2_000_000 for n in range(40)]
    table = pa.table({"url": [f"{n}" for n in range(40)], "caption": pa.array(texts).cast(kind)})
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, use_dictionary=dictionary, dictionary_pagesize_limit=1 << 27)
    split = Split(str(path), "parquet", "", "url", "caption", (0,))
    batches = list(read_split(split, 65_536))
    assert [row for batch in batches for row in batch["caption"].to_pylist()] == texts
    assert max(batch["caption"].nbytes for batch in batches) < BATCH_BYTES + (1 << 10)
    assert len(batches) >= 3


class ReadRows(NamedTuple):
    """Rows as they were read: how many, the URLs of those that are unreadable, and the bytes of
    the values of a column."""

    count: int
    unreadable: list[bytes]
    bytes: int


def read_rows(path: Path, column: str, *carried: CarriedColumn) -> ReadRows:
    """Reads all splits; no batch may have much more than its bytes."""
    count, size, unreadable = 0, 0, []
    for split in splits_of(path):
        for batch in read_split(replace(split, carried=carried), 1 << 20, skip_broken=True):
            assert batch.nbytes < BATCH_BYTES + (1 << 23)
            count += len(batch)
            size += string_sizes(batch[column]).sum()
            faults = batch.schema.get_field_index("malformed") >= 0 and batch["malformed"]
            if faults:
                unreadable += batch["url"].filter(faults.is_valid()).to_pylist()
    return ReadRows(count, unreadable, int(size))


LONG_KINDS = [(pa.string(), 100_000), (pa.large_binary(), 900_000), (pa.binary(100_000), 100_000)]


@pytest.mark.parametrize(("kind", "size"), LONG_KINDS, ids=str)
def test_repeats_of_one_long_text_are_read_up_to_a_bound(
    tmp_path: Path, kind: pa.DataType, size: int
):
    """3 GB of text in a file of 200 kB: twice the rows have no more of it. Short texts among them
    are all read."""
    path = tmp_path / "a.parquet"
    dictionary = pa.array([b"x" * size]).cast(kind)
    if kind != pa.binary(100_000):
        dictionary = pa.concat_arrays([dictionary, pa.array([b"short"]).cast(kind)])
    for rows in (2_000, 4_000):
        at = np.where(np.arange(rows) % 9 > 6, len(dictionary) - 1, 0).astype(np.int32)
        long = np.flatnonzero(at == 0)
        texts = pa.DictionaryArray.from_arrays(at, dictionary)
        table = pa.table({"url": np.arange(rows).astype(str), "caption": texts})
        pq.write_table(table, path, store_schema=False, row_group_size=rows // 2)
        bound = FREE_BYTES + MOST_TIMES * path.stat().st_size
        assert bound < 1 << 28
        found = read_rows(path, "caption")
        assert found.count == rows
        assert bound // 3 < found.bytes < bound + rows * 5
        of_each_half = (found.bytes // size) // 2 - 1
        assert {b"%d" % row for row in long[of_each_half : of_each_half + 9]} & {*found.unreadable}
        assert {*found.unreadable} <= {b"%d" % row for row in long}


@pytest.mark.parametrize("form", ["text", "list", "struct"])
def test_repeats_in_a_carried_column_are_read_up_to_a_bound(tmp_path: Path, form: str):
    """10 GB of text in 100 kB, within lists and structs too, and where one row is a list of all."""
    for rows in (10_000, 20_000):
        dictionary = pa.array(["y" * 1_000_000, "short"])
        at = np.arange(rows, dtype=np.int32) % 2
        values: pa.Array = pa.DictionaryArray.from_arrays(at, dictionary)
        if form == "list":
            stops = np.r_[0, 0, np.arange(2, rows), 2 * rows - 2].astype(np.int32)
            values = pa.ListArray.from_arrays(stops, pa.concat_arrays([values, values]))
        elif form == "struct":
            values = pa.StructArray.from_arrays([values, pa.array(at)], ["text", "n"])
        table = pa.table(
            {"url": np.arange(rows).astype(str), "caption": ["of"] * rows, "more": values}
        )
        path = tmp_path / "a.parquet"
        pq.write_table(table, path)
        field = pa.field("more", plain_type(values.type))
        found = read_rows(path, CARRIED + "more", CarriedColumn("more", field))
        assert found.count == rows
        bound = FREE_BYTES + MOST_TIMES * path.stat().st_size
        assert bound // 2 < found.bytes < bound + rows * 5
        assert len(found.unreadable) == pytest.approx(rows / 2 - found.bytes / 10**6, abs=3)


def test_row_groups_that_share_their_bytes_are_damage():
    """Of four row groups of a text each, the last two are moved to the bytes of the second."""
    options = {"use_dictionary": False, "compression": None, "write_statistics": False}
    sink = io.BytesIO()
    table = pa.table({"caption": ["some text" * 100] * 4})
    pq.write_table(table, sink, row_group_size=1, **options)
    whole, footer = sink.getvalue(), pq.read_metadata(sink)
    check_footer(footer, len(whole))
    starts = [footer.row_group(at).column(0).data_page_offset for at in range(4)]
    tail = whole[-8 - footer.serialized_size :]
    for start in starts[2:]:
        tail = tail.replace(zigzag(start), zigzag(starts[1]))
    shared = whole[: starts[2]] + tail
    with pytest.raises(FileFault, match=f"and it has {len(shared):,}"):
        check_footer(pq.read_metadata(io.BytesIO(shared)), len(shared))
    assert read_footer(io.BytesIO(whole)).num_rows == 4
    with pytest.raises(FileFault, match="its footer cannot be true"):
        read_footer(io.BytesIO(whole[: starts[2]] + whole[-8 - footer.serialized_size :]))


def zigzag(number: int) -> bytes:
    """A number as Thrift's compact protocol has it, of two bytes."""
    return bytes([(number << 1) & 127 | 128, number >> 6])


@pytest.mark.slow
def test_values_that_share_much_are_not_decoded_at_once(tmp_path: Path):
    """Reads 102 MB of text from 300 KB, as Spark may write it: each value extends the one before. A
    file with much more text is broken."""
    rows, text = 340, "x" * 300_000
    table = pa.table({"url": np.arange(rows), "caption": [text] * rows})
    encodings = {"url": "PLAIN", "caption": "DELTA_BYTE_ARRAY"}
    path = tmp_path / "a.parquet"
    how = {"use_dictionary": False, "column_encoding": encodings, "compression": "none"}
    pq.write_table(table, path, **how)
    split = Split(str(path), "parquet", "", "url", "caption", (0,))
    del table
    before, count = pa.total_allocated_bytes(), 0
    for batch in read_split(split, 65_536):
        assert pa.total_allocated_bytes() - before < 2 * BATCH_BYTES
        assert batch["url"].to_pylist() == [b"%d" % (count + at) for at in range(len(batch))]
        count += len(batch)
    assert count == rows
    table = pa.table({"url": np.arange(9000), "caption": [text[:90_000]] * 9000})
    pq.write_table(table, path, **how)
    *_, last = read_split(split, 65_536, skip_broken=True)
    assert "share too many bytes" in str(last["caption"][-1].as_py())
    assert last["malformed"][-1].as_py() == "damaged"


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


COUNT = 2000
PAIRS = [(b"http://a.org/%d" % n, b"text number %d" % (n * n)) for n in range(COUNT)]
BIG_CSV = TABLE + b"".join(b"%s,%s\n" % pair for pair in PAIRS)
LINES = [b'{"url": "%s", "caption": "%s"}\n' % pair for pair in PAIRS]
# How a file is made, and where it is cut beside the usual places.
CUT_FILES: dict[str, Callable[[], bytes]] = {
    "a.csv.gz": lambda: compressed(BIG_CSV, ".gz"),
    "a.csv.zst": lambda: compressed(BIG_CSV, ".zst"),
    "a.jsonl.gz": lambda: compressed(b"".join(LINES), ".gz"),
    "members.jsonl.gz": lambda: b"".join(map(gzip.compress, LINES)),
    "a.tar": lambda: tar_of({f"{n:04d}.json": line for n, line in enumerate(LINES[:100])}),
}


@pytest.mark.parametrize("name", CUT_FILES)
def test_a_cut_file_gives_its_first_rows_and_one_that_tells(tmp_path: Path, name: str):
    whole = CUT_FILES[name]()
    path = tmp_path / name
    path.write_bytes(whole)
    expected, details = read_broken(path)
    assert (expected, details) == (PAIRS[: 100 if name == "a.tar" else COUNT], [])
    counts = []
    sizes = (0, 1, 20, len(whole) // 3, len(whole) // 2, len(whole) * 2 // 3)
    if name == "a.tar":  # whose members take 1,024 bytes each
        sizes = (0, 1, 20, 30 * 1024 + 1, 50 * 1024 + 511, 70 * 1024 + 512 + 10)
    for size in sizes:
        path.write_bytes(whole[:size])
        rows, details = read_broken(path)
        assert rows == expected[: len(rows)]  # and no half of a row
        assert details == ["cut_short"]
        counts.append(len(rows))
    assert counts == sorted(counts)
    assert counts[-1] > 0 or name == "a.csv.zst"  # whose only block is all of it
    if name == "a.csv.gz":
        path.write_bytes(whole[:-1])  # a checksum that is cut costs no row
        assert read_broken(path) == (PAIRS, ["cut_short"])
        for at in range(20, len(whole), len(whole) // 9):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
            rows, (detail,) = read_broken(path)
            assert detail in ("damaged", "cut_short")
            assert len(rows) < COUNT * 2


@pytest.mark.parametrize(
    "end", [b'http://a.org/x,"never', b'http://a.org/x,too,many,"never', b'"', b'x,"a""\n']
)
def test_a_quotation_that_is_never_closed_costs_its_own_row(tmp_path: Path, end: bytes):
    (tmp_path / "a.csv").write_bytes(BIG_CSV + end)
    assert read_broken(tmp_path / "a.csv") == (PAIRS, ["damaged"])


def write_groups(path: Path, groups: int) -> list[int]:
    """Writes COUNT rows in so many row groups; where the pages of each begin."""
    table = pa.table({"url": [url for url, _ in PAIRS], "caption": [text for _, text in PAIRS]})
    options = {"row_group_size": COUNT // groups, "use_dictionary": False, "compression": "none"}
    pq.write_table(table, path, write_page_checksum=True, **options)
    footer = pq.read_metadata(path)
    return [footer.row_group(n).column(1).data_page_offset for n in range(groups)]


def test_damaged_parquet_costs_a_row_group_or_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "a.parquet"
    second = write_groups(path, 4)[1]
    whole = path.read_bytes()
    path.write_bytes(whole[: second + 500] + b"\xff" + whole[second + 501 :])
    for rows_per_split in (1, 600, 1 << 18):  # whatever the splits are
        monkeypatch.setattr(splits_module, "ROWS_PER_SPLIT", rows_per_split)
        rows = rows_of(splits_of(path), 300, skip_broken=True)
        assert [row[:2] for row in rows if not row[2]] == PAIRS[:500] + PAIRS[1000:]
        assert [row[::2] for row in rows if row[2]] == [(str(path).encode(), "damaged")]
    for size in (0, 3, 4, 100, len(whole) - 9, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert read_broken(path) == ([], ["cut_short"])
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    path.write_bytes(whole[:footer] + b"\xff" * 30 + whole[footer + 30 :])
    assert read_broken(path) == ([], ["damaged"])
    write_groups(path, 200)
    split = Split(str(path), "parquet", "", "url", "caption", tuple(range(200)))
    assert [len(batch) for batch in read_split(split, 1500)] == [1500, 500]  # few, of many groups


def test_what_vanished_is_told(tmp_path: Path):
    for split_format in ("csv", "jsonl", "parquet", "webdataset"):
        split = Split(str(tmp_path / "a"), split_format, "", "url", "caption", (0,))
        (batch,) = read_split(split, 10, skip_broken=True)
        assert batch["malformed"].to_pylist() == ["gone"]
        with pytest.raises(BrokenInputError, match=r"/a to its end: No such file"):
            list(read_split(split, 10))
    split = Split(str(tmp_path / "a"), "pages", "", "url", "caption", (0,))
    with pytest.raises(FileNotFoundError):  # which the run has written itself
        list(read_split(split, 10, skip_broken=True))


@pytest.mark.parametrize(("column", "field"), [("qqqq", "x"), ("more", "qqqq")])
def test_a_column_whose_name_is_not_utf8_costs_its_file(tmp_path: Path, column: str, field: str):
    """Also within a struct that is not read."""
    inner = pa.array([{field: 1}])
    table = pa.table({"url": ["http://a.org"], "caption": ["b"], column: inner})
    pq.write_table(table, tmp_path / "a.parquet", store_schema=False)
    body = (tmp_path / "a.parquet").read_bytes().replace(b"qqqq", b"qq\xff\xfe")
    (tmp_path / "a.parquet").write_bytes(body)
    assert read_broken(tmp_path / "a.parquet") == ([], ["damaged"])


PAGES: dict[str, tuple[bytes | pa.Table, list[bytes | None] | None]] = {
    "a.parquet": (
        pa.table({"url": ["a", "b"], "caption": ["c", "d"], "page_url": ["http://p", None]}),
        [b"http://p", None],
    ),
    "a.csv": (b"PAGE_URL,url,caption\nhttp://p,a,b\n,c,d\n", [b"http://p", b""]),
    "a.jsonl": (
        b'{"url": "a", "caption": "b", "page_url": "http://p"}\n' + GOOD,
        [b"http://p", None],
    ),
    "odd.jsonl": (
        line(b'"a", "page_url": 7')
        + line(b'"b", "page_url": "a", "page_url": "b"')
        + line(b'"c", "page_url": "http://p/\xff"'),
        [None, None, b"http://p/\xff"],
    ),
    "lists.parquet": (pa.table({"url": ["a"], "caption": ["b"], "page_url": [[1, 2]]}), None),
}


@pytest.mark.parametrize("name", PAGES)
def test_the_page_that_a_pair_is_from_goes_with_it(tmp_path: Path, name: str):
    """A page address that is not a text costs no pair."""
    content, pages = PAGES[name]
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        pq.write_table(content, tmp_path / name)
    (batch,) = read_split(*splits_of(tmp_path / name), 100)
    assert not batch.schema.names.count("malformed") or batch["malformed"].null_count == len(batch)
    found = batch["page_url"].to_pylist() if "page_url" in batch.schema.names else None
    assert found == pages
