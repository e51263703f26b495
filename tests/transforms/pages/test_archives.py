"""Archives whole and broken: what holds is read, and what does not costs itself alone."""

import collections
import gzip
import io
import itertools
import random
import zipfile
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from alignset.transforms.pages import archive_members
from alignset.transforms.pages.archives import ArchiveRecord, Broken, check_archive, read_records
from alignset.transforms.rules.given import PAGE_FAULTS
from tests.fuzz.growth import cpu_seconds
from tests.support.page_archives import packed, page_record, record

BODY = '<img src="{}.png" alt="a picture">'
GOOD = [page_record(f"http://a.example/{n}", BODY.format(n)) for n in range(5)]
KINDS = ("plain", "gz", "zst")


def read(data: bytes) -> list[str]:
    """The last part of each page's URL, or why there is none."""
    items = list(read_records(io.BytesIO(data)))
    assert all(item.detail in PAGE_FAULTS for item in items if isinstance(item, Broken))
    return [
        item.detail if isinstance(item, Broken) else item.target.rpartition("/")[2]
        for item in items
    ]


def lying(length: object) -> bytes:
    return record("http://a.example/1", GOOD[1].partition(b"\r\n\r\n")[2][:-4], length=length)


@pytest.mark.parametrize("kind", KINDS)
def test_every_record_is_read_whole(kind: str):
    records = list(read_records(io.BytesIO(packed(GOOD, kind))))
    assert read(packed(GOOD, kind)) == list("01234")
    for read_back, raw in zip(records, GOOD, strict=True):
        assert isinstance(read_back, ArchiveRecord)
        assert bytes(read_back.block) == raw.partition(b"\r\n\r\n")[2][:-4]


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_length_costs_its_record_alone(kind: str):
    for length in ("-5", "x", "", "5", "99", "200", "1000000000000", "9" * 40):
        broken = read(packed([GOOD[0], lying(length), *GOOD[2:]], kind))
        assert (broken[0], broken[2:]) == ("0", list("234"))
        assert broken[1] in ("wrong_length", "cut_off", "bad_head")


@pytest.mark.parametrize("kind", KINDS)
def test_records_that_are_no_page_but_hold(kind: str):
    empty = record("http://a.example/empty", b"")
    odd = b"WARC/1.1\r\nno colon here\r\n\xff: \xfe\r\n" + GOOD[1].partition(b"\r\n")[2]
    wget = GOOD[1].replace(b"http://a.example/1", b"<http://a.example/1>")
    records = [GOOD[0], empty, odd, wget, GOOD[4]]
    assert read(packed(records, kind)) == ["0", "empty", "1", "1", "4"]


@pytest.mark.parametrize("kind", KINDS)
def test_junk_between_records(kind: str):
    parts = [packed([raw], kind) for raw in GOOD]
    names = read(b"junk, more junk\r\n".join(parts))
    assert [name for name in names if name not in PAGE_FAULTS] == list("01234")
    assert 1 <= len(names) - 5 <= 4


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_damaged_member(kind: str):
    parts = [packed([raw], kind) for raw in GOOD]
    for at in (9, 40, len(parts[1]) - 6):  # in its head, its data, its checksum or what is last
        damaged = bytearray(parts[1])
        damaged[at] ^= 0xFF
        names = read(b"".join([parts[0], bytes(damaged), *parts[2:]]))
        assert names[0] == "0"
        assert names[-3:] == list("234")
    assert read(b"".join([parts[0], parts[1][:60], *parts[2:]]))[-3:] == list("234")


def test_an_empty_member_and_padding_end_nothing():
    parts = [gzip.compress(GOOD[0]), gzip.compress(b""), gzip.compress(GOOD[2])]
    assert read(b"".join(parts)) == ["0", "2"]


def test_archives_within_archives():
    member = gzip.compress(b"".join(GOOD))  # all records in one member
    assert read(member) == list("01234")
    assert read(gzip.compress(packed(GOOD, "gz"))) == list("01234")
    wacz = io.BytesIO()
    with zipfile.ZipFile(wacz, "w") as file:
        file.writestr("archive/a.warc.gz", packed(GOOD[:2], "gz"))
        file.writestr("archive/b.warc", packed(GOOD[2:], "plain"))
        file.writestr("pages/pages.jsonl", "{}")
    assert read(wacz.getvalue()) == list("01234")


def test_damage_of_the_gzip_around_an_archive_is_told():
    inner = packed(GOOD, "gz")
    outer = bytearray(gzip.compress(inner[:-1], 0) + gzip.compress(inner[-1:]))
    assert read(bytes(outer)) == list("01234")
    outer[-8] ^= 1  # the checksum of the last byte, without which the archive is nearly whole
    names = read(bytes(outer))
    assert names[:4] == list("0123")
    assert names[-1] == "bad_compression"


def zipped(files: dict[str, bytes], way: int = zipfile.ZIP_STORED) -> bytearray:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", way) as file:
        for name, data in files.items():
            file.writestr(name, data)
    return bytearray(whole.getvalue())


# What a field of the first file's entry in a zip's directory is set to: (place, bytes).
BAD_ENTRIES = {
    "a version of the future": (6, b"\xff\xff"),
    "encrypted": (8, b"\x01\x00"),
    "compressed in no known way": (10, b"\x63\x00"),
    "another checksum": (16, b"\x05\x05\x05\x05"),
    "larger than the file": (20, b"\xff\xff\xff\x7f"),
    "a name to the end": (28, b"\xff\xff"),
    "more fields than there are": (30, b"\xff\xff"),
    "somewhere else": (42, b"\xff\xff\xff\x7f"),
}


@pytest.mark.parametrize(("place", "value"), BAD_ENTRIES.values(), ids=BAD_ENTRIES)
def test_a_damaged_wacz_is_a_fault(place: int, value: bytes):
    parts = {"a.warc": packed(GOOD[:2], "plain"), "b.warc.gz": packed(GOOD[2:], "gz")}
    for way in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        data = zipped(parts, way)
        at = data.index(b"PK\x01\x02") + place
        data[at : at + len(value)] = value
        assert set(read(bytes(data))) <= {*"01234", "bad_compression"}


def test_a_wacz_in_part():
    parts = {"a.warc": packed(GOOD[:2], "plain"), "b.warc.gz": packed(GOOD[2:], "gz")}
    data = zipped(parts)
    assert read(bytes(data[:-9])) == ["bad_compression"]
    renamed = data.replace(b"a.warc", b"c.warc", 1)  # as its directory does not call it
    assert read(bytes(renamed)) == ["bad_compression", *"234"]
    bz2 = zipped(parts, zipfile.ZIP_BZIP2)
    assert read(bytes(bz2)) == ["bad_compression"] * 2
    assert read(bytes(zipped({"a.warc": bytes(zipped(parts))})))[:1] == ["bad_head"]


def test_files_of_a_wacz_that_lie_over_each_other():
    """Of those a zip of 10 MB may have 280 TB."""
    data = zipped({"a.warc.gz": packed(GOOD, "gz")})
    begin, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    entries = data[begin:end] * 99
    data[end + 8 : end + 16] = (99).to_bytes(2, "little") * 2 + len(entries).to_bytes(4, "little")
    names = read(bytes(data[:begin] + entries + data[end:]))
    assert names[:5] == list("01234")
    assert names[-80:] == ["bad_compression"] * 80


def test_a_directory_of_a_wacz_that_is_too_long():
    """It takes ten times its bytes to hold it."""
    data = zipped({f"{n:0100}": b"" for n in range(30_000)} | {"a.warc": packed(GOOD, "plain")})
    assert read(bytes(data)) == ["bad_compression"]


def test_what_unpacks_to_much_more_is_cut(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("alignset.transforms.pages.archives.LEAST_LIMIT", 1 << 16)
    many = b"".join(GOOD) * 2000
    for data in (
        gzip.compress(gzip.compress(many, 0), 9),
        bytes(zipped({"a.warc": many}, zipfile.ZIP_DEFLATED)),
    ):
        names = read(data)
        assert names[:5] == list("01234")
        assert names[-1] == "cut_off"
        assert 20 < len(names) < 9000


def test_archives_within_more_than_one():
    data = packed(GOOD, "gz")
    for layers in range(4):
        assert read(data) == (list("01234") if layers < 2 else ["bad_head"])
        data = gzip.compress(data)


def test_zstd_with_a_dictionary_of_its_own():
    samples = [page_record(f"http://b.example/{n}", BODY.format(n) * (n % 7)) for n in range(500)]
    dictionary = zstandard.train_dictionary(2000, samples)
    packer = zstandard.ZstdCompressor(dict_data=dictionary)
    for inside in (dictionary.as_bytes(), zstandard.compress(dictionary.as_bytes())):
        frame = b"\x5d\x2a\x4d\x18" + len(inside).to_bytes(4, "little") + inside
        assert read(frame + b"".join(map(packer.compress, GOOD))) == list("01234")


@pytest.mark.parametrize("damage", [slice(0, 40), slice(40, 200)])
def test_a_damaged_dictionary_costs_its_archive_alone(damage: slice):
    samples = [page_record(f"http://b.example/{n}", BODY.format(n) * (n % 7)) for n in range(500)]
    dictionary = zstandard.train_dictionary(2000, samples).as_bytes()
    packer = zstandard.ZstdCompressor(dict_data=zstandard.ZstdCompressionDict(dictionary))
    for inside in (
        dictionary,
        zstandard.compress(dictionary),
        b"\x28\xb5\x2f\xfd\xe0" + b"\xff" * 300,
    ):
        bad = bytearray(inside)
        bad[damage.start + 8 : damage.stop] = b"\xee" * (damage.stop - damage.start - 8)
        frame = b"\x5d\x2a\x4d\x18" + len(bad).to_bytes(4, "little") + bad
        names = read(frame + b"".join(map(packer.compress, GOOD)))
        assert set(names) <= {"bad_compression", "bad_head", *"01234"}


def seconds(data: bytes) -> float:
    return cpu_seconds(lambda body: collections.deque(read_records(io.BytesIO(body)), 0), data)


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_record_in_small_pieces(kind: str):
    """Each piece was put behind a copy of all before it, and the head read again for it."""
    large = page_record("http://a.example/large", random.Random(0).randbytes(24 << 20))
    large = large.replace(b"WARC-Date", b"a:b\r\n" * 10_000 + b"WARC-Date", 1)
    data = packed([large], kind)
    (whole,) = read_records(io.BytesIO(data))
    assert len(whole.block) > 24 << 20
    assert seconds(data) < 24 * max(seconds(packed([large[: 2 << 20]], kind)), 0.05)


def nested(count: int, tail: bytes) -> bytes:
    """Members of which each is the data of the one before, up to one fault for all of them."""
    head = gzip.compress(b"", mtime=0)[:10]
    as_it_is = b"\x00\x0a\x00\xf5\xff"  # the next ten bytes, which are a head
    return (head + as_it_is) * count + bytes(10) + tail + b"\xff" * 9


def test_members_within_members_are_not_decoded_for_each_of_them():
    def archive(scale: int) -> bytes:
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        tail = packer.compress(bytes(scale << 20)) + packer.flush(zlib.Z_SYNC_FLUSH)
        return packed([GOOD[0]], "gz") + nested(100 * scale, tail)

    assert seconds(archive(16)) < 24 * max(seconds(archive(2)), 0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_larger_than_memory_should_hold(kind: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("alignset.transforms.pages.archives.MAX_RECORD", 1 << 20)
    large = page_record("http://a.example/large", random.Random(0).randbytes(5 << 20))
    records = list(read_records(io.BytesIO(packed([GOOD[0], large, GOOD[2]], kind))))
    assert [read_back.whole for read_back in records] == [True, False, True]
    assert len(records[1].block) == 1 << 16


@pytest.mark.parametrize("kind", KINDS)
def test_cut_anywhere(kind: str):
    data = packed(GOOD[:3], kind)
    ends = list(itertools.accumulate(len(packed([raw], kind)) for raw in GOOD[:3]))
    for at in range(len(data)):
        names = read(data[:at])
        whole = sum(end <= at for end in ends)
        assert names[:whole] == list("012")[:whole]
        assert len(names) <= whole + 2


@given(
    st.sampled_from(KINDS),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=5),
    st.binary(max_size=30),
    st.integers(0, 10_000),
)
def test_any_damage_ends_in_records_and_faults(kind, flips, junk, place):
    data = bytearray(packed(GOOD, kind))
    for at, byte in flips:
        data[at % len(data)] = byte
    data[place % len(data) : place % len(data)] = junk
    names = read(bytes(data))
    kept = [name for name in names if name in "01234"]
    assert len(names) <= 20
    assert len(kept) >= 5 - 2 * (len(flips) + 1)


@given(st.integers(1, 60))
def test_how_much_is_read_at_once_changes_nothing(size: int):
    records = [GOOD[0], lying(99), GOOD[2], b"junk\r\n", *GOOD[3:]]
    archives = [packed(records, kind) for kind in KINDS]
    archives += [gzip.compress(packed(records, "gz"), level) for level in (0, 9)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archives, "READ", 37 * size)
        patch.setattr(archive_members, "_FIRST", size)
        small = [read(data) for data in archives]
    assert small == [read(data) for data in archives]


def test_what_is_no_archive_is_told():
    for data in (b"", b"<html>", gzip.compress(b"<html>"), b"\x1f\x8b\x08"):
        with pytest.raises(ValueError, match="no WARC record"):
            check_archive(io.BytesIO(data))
    check_archive(io.BytesIO(packed([lying(99), GOOD[2]], "gz")))
