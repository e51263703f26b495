"""Bad input of every kind: each row is a pair or has a detail, or the command refuses in one
line. docs/bad_input.md is this table in words."""

import decimal
import gzip
import io
import tarfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.find_inputs import find_files
from alignset.pipeline.inputs.find_splits import find_splits
from alignset.pipeline.inputs.readers import BATCH_BYTES, read_split
from alignset.pipeline.inputs.row_groups import FREE_BYTES, MOST_TIMES, check_footer, string_sizes
from alignset.pipeline.inputs.splits import CarriedColumn, Split
from alignset.pipeline.job import Job
from alignset.pipeline.shown_texts import on_one_line
from alignset.transforms.columns.carried import CARRIED, plain_type
from alignset.transforms.pairs.measure_pairs import measure
from alignset.transforms.storage.broken_files import BrokenInputError, FileFault
from tests.support.command import funnel, kept, rejected, run, succeed

GOOD = b'{"url": "http://a.org/0", "caption": "some text"}\n'
TABLE = b"url,caption\n"
ROW = b"http://a.org/0,some text\n"
UNREADABLE, NOT_UTF8, NO_TEXT, NO_URL = "unreadable_row", "not_utf8", "no_text", "no_url"
ALL = ("--text_only", "--language=", "--min_words=1", "--max_words=100000000")


def parquet(texts: Any, **more: Any) -> bytes:
    urls = [f"http://a.org/{n}" for n in range(len(texts))]
    sink = io.BytesIO()
    pq.write_table(pa.table({"url": urls, "caption": texts}), sink, **more)
    return sink.getvalue()


def line(caption: bytes, url: bytes = b"http://a.org/1") -> bytes:
    return b'{"url": "%s", "caption": %s}\n' % (url, caption)


def shard(files: dict[str, bytes]) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for name, body in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return whole.getvalue()


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
        shard({"1.json": b"[" * 100_000, "2.json": GOOD, "3.txt": b"x"}),
        1,
        [NO_URL] * 2,
    ),
}


def rows_of(path: Path) -> tuple[int, list[str | None]]:
    """How many distinct pairs of a file are well-formed, and the details of the others; those of
    repeats are None."""
    job = Job(input=str(path), output=f"{path}.set")
    keys, details = set[int](), list[str | None]()
    for split in find_splits(job, find_files(job)):
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
    found, faults = rows_of(tmp_path / name)
    assert (found, Counter(faults)) == (good, Counter(details))


def test_a_run_has_the_rows_of_all_its_files(tmp_path: Path):
    """Also of one that looks like a header without rows, by its line ends."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_bytes(GOOD + b'null\n7\n"x"\n[]\n')
    (tmp_path / "in" / "b.csv").write_bytes((TABLE + ROW.replace(b"0", b"1")).replace(b"\n", b"\r"))
    succeed(tmp_path / "in", tmp_path / "set", *ALL)
    assert len(kept(tmp_path / "set")) == 2
    assert [fate.detail for fate in rejected(tmp_path / "set")] == [UNREADABLE] * 4
    assert funnel(tmp_path / "set")["steps"][0]["seen"] == 6


def test_a_row_longer_than_a_block_repeats_and_loses_none(tmp_path: Path, monkeypatch):
    for name in ("_READ", "BLOCK"):
        monkeypatch.setattr(f"alignset.pipeline.inputs.text_files.{name}", 1000)
    rows = [b"http://a.org/%d,text %d" % (n, n) for n in range(300)]
    rows[150] += b" long" * 1000
    rows[10] = rows[290] = b"bad"
    (tmp_path / "a.csv").write_bytes(TABLE + b"\n".join(rows))
    batches = read_split(Split(str(tmp_path / "a.csv"), "csv", "", "url", "caption"), 7)
    captions = [row["caption"] for batch in batches for row in batch.to_pylist()]
    assert captions.count(b"bad") == 2
    good = [row.partition(b",")[2] for row in rows if row != b"bad"]
    assert [text for text in captions if text != b"bad"] == good


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
    "compressed shards": ("a.tar.gz", gzip.compress(shard({"1.txt": b"x"})), 2, "decompress it"),
    "compressed Parquet": ("a.parquet.gz", gzip.compress(PLAIN), 2, "decompress it"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, case: str):
    name, body, status, says = REFUSED[case]
    (tmp_path / name).write_bytes(body)
    with pytest.raises(UsageError if status == 2 else BrokenInputError) as refused:
        rows_of(tmp_path / name)
    line = on_one_line(str(refused.value))
    assert says in line
    assert len(line) < 700


def test_a_run_says_what_cannot_be_read_and_nothing_else(tmp_path: Path):
    for case, made in (
        ("a name for terminals", ()),
        ("a damaged page", ("reading ", "text stage")),
    ):
        name, body, status, says = REFUSED[case]
        (tmp_path / name).write_bytes(body)
        ended = run(tmp_path / name, tmp_path / f"set-{status}", *ALL)
        assert ended.status == status
        lines = [text for text in ended.err.splitlines() if not text.startswith(("comp", *made))]
        assert len(lines) == 1, ended.err
        assert lines[0].startswith("beam_runner.py: ")
        assert says in lines[0]
        assert lines[0].isprintable()


def columns_of(path: Path, **flags: str) -> list[tuple[str, str]]:
    job = Job(input=str(path), output="o", **flags)
    return [(split.url_column, split.text_column) for split in find_splits(job, find_files(job))]


def test_columns_that_are_told(tmp_path: Path):
    for name, body in (("a.csv", TABLE + ROW), ("a.jsonl", GOOD)):
        (tmp_path / name).write_bytes(body)
        with pytest.raises(UsageError, match="both URL and text; pass another --text_column"):
            columns_of(tmp_path / name, url_column="caption")
    few = tmp_path / "few.jsonl"
    few.write_bytes(b'{"url": "http://a.org"}\n' * 50 + GOOD)
    with pytest.raises(UsageError, match="has no column named caption"):
        columns_of(few)
    assert columns_of(few, text_column="caption") == [("url", "caption")]


def test_a_row_of_parquet_that_is_too_long_is_a_reason(tmp_path: Path):
    """Of 41 MiB, which as JSON would end the command; its neighbours are read."""
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
    job, count, size, unreadable = Job(input=str(path), output="o"), 0, 0, []
    for split in find_splits(job, find_files(job)):
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
    """18 GB of text in a file of 200 kB: twice the rows have no more of it. Short texts among them
    are all read."""
    path = tmp_path / "a.parquet"
    dictionary = pa.array([b"x" * size]).cast(kind)
    if kind != pa.binary(100_000):
        dictionary = pa.concat_arrays([dictionary, pa.array([b"short"]).cast(kind)])
    for rows in (10_000, 20_000):
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


def test_row_groups_that_share_their_bytes_are_damage(tmp_path: Path):
    (tmp_path / "a.parquet").write_bytes(parquet(["some text"] * 5, row_group_size=1))
    size = (tmp_path / "a.parquet").stat().st_size
    footer = pq.read_metadata(tmp_path / "a.parquet")
    check_footer(footer, size)
    with pytest.raises(FileFault, match="and it has 200"):
        check_footer(footer, 200)


@pytest.mark.slow
def test_values_that_share_much_are_not_decoded_at_once(tmp_path: Path):
    """102 MB of text in 300 KB, as Spark may write it: each value adds to the one before. Of much
    more the file is broken."""
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
