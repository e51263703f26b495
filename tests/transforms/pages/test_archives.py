"""Archives whole and broken: what holds is read, and what does not costs itself alone."""

import collections
import gzip
import io
import itertools
import random
import zipfile
import zlib
from pathlib import Path

import pytest
import zstandard

from alignset.transforms.pages import archives
from alignset.transforms.pages.archives import ArchiveRecord, Broken, check_archive, read_records
from alignset.transforms.rules.given import PAGE_FAULTS
from tests.fuzz import pages
from tests.fuzz.growth import cpu_seconds
from tests.support.page_archives import packed, page_record, record

BODY = '<img src="{}.png" alt="a picture">'
GOOD = [page_record(f"http://a.example/{n}", BODY.format(n)) for n in range(5)]
ALL = [*"01234"]
KINDS = ("plain", "gz", "zst")


def read(data: bytes) -> list[str]:
    """The last part of each page's URL, or why there is none."""
    items = list(read_records(io.BytesIO(data)))
    assert all(item.detail in PAGE_FAULTS for item in items if isinstance(item, Broken))
    return [
        item.detail if isinstance(item, Broken) else item.target.rpartition("/")[2]
        for item in items
    ]


def block_of(raw: bytes) -> bytes:
    return raw.partition(b"\r\n\r\n")[2][:-4]


def lying(length: object) -> bytes:
    return record("http://a.example/1", block_of(GOOD[1]), length=length)


def with_second(raw: bytes) -> list[bytes]:
    return [GOOD[0], raw, *GOOD[2:]]


ODD = b"WARC/1.1\r\nno colon here\r\n\xff: \xfe\r\n" + GOOD[1].partition(b"\r\n")[2]
WGET = GOOD[1].replace(b"http://a.example/1", b"<http://a.example/1>")
FOLDED = GOOD[1].replace(b"WARC-Target-URI: ", b"WARC-Target-URI:\r\n\t")
LONG_HEAD = GOOD[1].replace(b"WARC-Date", b"a: b\r\n" * 20_000 + b"WARC-Date")
# The second of five records, and what is read in its place.
SECOND = [
    (GOOD[1], ["1"]),
    (ODD, ["1"]),
    (WGET, ["1"]),
    (FOLDED, ["1"]),
    (record("http://a.example/empty", b""), ["empty"]),
    (LONG_HEAD, ["bad_head"]),
    (GOOD[1][:90] + b"\n", ["cut_off"]),
    (GOOD[1][:-20] + b"\n", ["cut_off"]),
    (lying("-5"), ["bad_head"]),
    (lying("x"), ["bad_head"]),
    (lying(""), ["bad_head"]),
    (lying("9" * 40), ["bad_head"]),
    (lying(5), ["wrong_length"]),
    (lying(99), ["cut_off"]),
    (lying(200), ["cut_off"]),
    (lying(10**12), ["cut_off"]),
    (b"junk, more junk\r\n", ["bad_head"]),
    (b"\r\n" * 99, []),
]


@pytest.mark.parametrize(("raw", "found"), SECOND, ids=range(len(SECOND)))
@pytest.mark.parametrize("kind", KINDS)
def test_a_record_among_others(kind: str, raw: bytes, found: list[str]):
    names = read(packed(with_second(raw), kind))
    if kind == "plain":  # what it claims may be the next one's
        names = [name.replace("wrong_length", "cut_off") for name in names]
        found = [name.replace("wrong_length", "cut_off") for name in found]
    assert names == ["0", *found, "2", "3", "4"]


def test_damaged_records_cost_themselves_alone_however_much_is_read_at_once():
    for seed in range(100):
        pages.check_archives(random.Random(seed))


def zipped(files: dict[str, bytes], way: int = zipfile.ZIP_STORED) -> bytearray:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", way) as file:
        for name, data in files.items():
            file.writestr(name, data)
    return bytearray(whole.getvalue())


PARTS = {
    "archive/a.warc.gz": packed(GOOD[:2], "gz"),
    "archive/b.warc": packed(GOOD[2:], "plain"),
    "pages/pages.jsonl": b"{}",
}
SAMPLES = [page_record(f"http://b.example/{n}", BODY.format(n) * (n % 7)) for n in range(500)]
DICTIONARY = zstandard.train_dictionary(2000, SAMPLES)
WITH_DICTIONARY = b"".join(map(zstandard.ZstdCompressor(dict_data=DICTIONARY).compress, GOOD))


def dictionary_frame(data: bytes) -> bytes:
    return b"\x5d\x2a\x4d\x18" + len(data).to_bytes(4, "little") + data


def outer_gzip(checksum: int) -> bytes:
    """A second gzip of two members; the last has one byte, and its checksum is changed."""
    inner = packed(GOOD, "gz")
    outer = bytearray(gzip.compress(inner[:-1], 0) + gzip.compress(inner[-1:]))
    outer[-8] ^= checksum
    return bytes(outer)


def many_of_one_file(count: int) -> bytes:
    data = zipped({"a.warc.gz": packed(GOOD, "gz")})
    begin, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    entries = data[begin:end] * count
    size = count.to_bytes(2, "little") * 2 + len(entries).to_bytes(4, "little")
    data[end + 8 : end + 16] = size
    return bytes(data[:begin] + entries + data[end:])


OVERLAPPING = many_of_one_file(99)
READABLE = len(OVERLAPPING) // len(packed(GOOD, "gz"))
BAD_DICTIONARY = dictionary_frame(DICTIONARY.as_bytes()[:40] + b"\xee" * 200)
CONTAINERS = {
    "one member": (gzip.compress(b"".join(GOOD)), ALL),
    "one frame": (zstandard.compress(b"".join(GOOD)), ALL),
    "an empty member": (
        gzip.compress(GOOD[0]) + gzip.compress(b"") + gzip.compress(GOOD[2]),
        ["0", "2"],
    ),
    "a second gzip": (gzip.compress(packed(GOOD, "gz")), ALL),
    "its members": (outer_gzip(0), ALL),
    "its checksum": (outer_gzip(1), [*ALL, "cut_off", "bad_compression"]),
    "one of its own": (
        packed([GOOD[0], packed(GOOD[1:2], "gz"), *GOOD[2:]], "gz"),
        ["0", "bad_head", *"234"],
    ),
    "a third gzip": (gzip.compress(gzip.compress(packed(GOOD, "gz"))), ["bad_head"]),
    "a dictionary": (dictionary_frame(DICTIONARY.as_bytes()) + WITH_DICTIONARY, ALL),
    "a packed one": (
        dictionary_frame(zstandard.compress(DICTIONARY.as_bytes())) + WITH_DICTIONARY,
        ALL,
    ),
    "a damaged one": (BAD_DICTIONARY + WITH_DICTIONARY, ["bad_compression"] * 5),
    "wacz": (bytes(zipped(PARTS)), ALL),
    "wacz, deflated": (bytes(zipped(PARTS, zipfile.ZIP_DEFLATED)), ALL),
    "wacz, bz2": (bytes(zipped(PARTS, zipfile.ZIP_BZIP2)), ["bad_compression"] * 2),
    "wacz, cut": (bytes(zipped(PARTS)[:-9]), ["bad_compression"]),
    "wacz, other names": (
        bytes(zipped(PARTS).replace(b"a.warc", b"c.warc", 1)),
        ["bad_compression", *"234"],
    ),
    # A zip of 10 MB may have 280 TB in files that overlap.
    "wacz, overlapping": (OVERLAPPING, [*ALL * READABLE, *["bad_compression"] * (99 - READABLE)]),
    "wacz, directory of 4.5 MB": (
        bytes(zipped({f"{n:0100}": b"" for n in range(30_000)} | PARTS)),
        ["bad_compression"],
    ),
}


@pytest.mark.parametrize(("data", "found"), CONTAINERS.values(), ids=CONTAINERS)
def test_archives_within_files(data: bytes, found: list[str]):
    assert read(data) == found


def test_a_place_that_no_disk_has_is_a_fault(tmp_path: Path):
    data = zipped({"a.warc": GOOD[0]})
    begin, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    entry, last = data[begin:end], data[end:]
    entry[30:32], entry[42:46] = b"\x0c\0", b"\xff" * 4  # its place follows in 8 bytes
    entry += b"\1\0\x08\0" + (2**63 - 1).to_bytes(8, "little")
    last[12:16] = len(entry).to_bytes(4, "little")
    path = tmp_path / "a.wacz"
    path.write_bytes(data[:begin] + entry + last)
    with path.open("rb") as source:
        assert list(read_records(source)) == [archives.Broken("bad_compression")]


def test_what_unpacks_to_much_more_is_cut(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(archives, "LEAST_LIMIT", 1 << 16)
    many = b"".join(GOOD) * 2000
    for data in (
        gzip.compress(gzip.compress(many, 0), 9),
        bytes(zipped({"a.warc": many}, zipfile.ZIP_DEFLATED)),
    ):
        names = read(data)
        assert names[:5] == ALL
        assert names[-1] == "cut_off"
        assert 20 < len(names) < 9000


def large(size: int, head: int = 10_000) -> bytes:
    raw = page_record("http://a.example/large", random.Random(0).randbytes(size << 20))
    return raw.replace(b"WARC-Date", b"a:b\r\n" * head + b"WARC-Date", 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_record(kind: str, monkeypatch: pytest.MonkeyPatch):
    data = packed([GOOD[0], large(5), GOOD[2]], kind)
    blocks = [found.block for found in read_records(io.BytesIO(data))]
    assert blocks == [block_of(raw) for raw in (GOOD[0], large(5), GOOD[2])]
    monkeypatch.setattr(archives, "MAX_RECORD", 1 << 20)
    records = list(read_records(io.BytesIO(data)))
    assert [found.whole for found in records] == [True, False, True]
    assert len(records[1].block) == 1 << 16


def nested(scale: int) -> bytes:
    """Members of which each is the data of the one before, up to one fault for all of them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    tail = packer.compress(bytes(scale << 20)) + packer.flush(zlib.Z_SYNC_FLUSH)
    # The next ten bytes as they are, which are a head.
    member = gzip.compress(b"", mtime=0)[:10] + b"\x00\x0a\x00\xf5\xff"
    return packed([GOOD[0]], "gz") + member * 100 * scale + bytes(10) + tail + b"\xff" * 9


GROWING = {
    "members in members": nested,
    "claims of the next 60 MB": lambda n: (
        n * 3000 * b"WARC/1.0\r\nContent-Length: 60000000\r\n\r\n"
    ),
    "blank lines": lambda n: n * 9000 * b"\r\n" + GOOD[0],
    "claims of nothing": lambda n: n * 3000 * b"WARC/1.0\r\nContent-Length: 0\r\n\r\n",
    "heads without an end": lambda n: n * 5000 * b"WARC/1.0\r\na: b\r\n",
    **{kind: lambda n, kind=kind: packed([large(n)], kind) for kind in KINDS},
}


@pytest.mark.parametrize("name", GROWING)
def test_time_grows_with_the_bytes(name: str):
    def seconds(data: bytes) -> float:
        return cpu_seconds(lambda body: collections.deque(read_records(io.BytesIO(body)), 0), data)

    assert seconds(GROWING[name](16)) < 24 * max(seconds(GROWING[name](2)), 0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_cut_anywhere(kind: str):
    data = packed(GOOD[:3], kind)
    ends = list(itertools.accumulate(len(packed([raw], kind)) for raw in GOOD[:3]))
    for at in range(len(data)):
        names = read(data[:at])
        whole = sum(end <= at for end in ends)
        assert names[:whole] == ALL[:whole]
        assert len(names) <= whole + 2


def test_what_is_no_archive_is_told():
    for data in (b"", b"<html>", gzip.compress(b"<html>"), b"\x1f\x8b\x08"):
        with pytest.raises(ValueError, match="no WARC record"):
            check_archive(io.BytesIO(data))
    check_archive(io.BytesIO(packed([lying(99), GOOD[2]], "gz")))
    assert isinstance(next(read_records(io.BytesIO(GOOD[0]))), ArchiveRecord)
