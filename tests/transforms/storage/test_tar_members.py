"""Tars as Python's own reader has them, and those that it does not survive."""

import io
import tarfile
import tracemalloc
from collections.abc import Iterator
from random import Random

import pytest

from tests.support.hostile_tars import HOSTILE, header, padded, tar_of
from transforms.storage.tar_members import MAX_EXTRA, BrokenTar, Member, tar_members

END = bytes(1024)


def members(tar: bytes) -> list[Member]:
    return list(tar_members(io.BytesIO(tar)))


def by_tarfile(tar: bytes) -> Iterator[Member]:
    with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as opened:
        for member in opened:
            if not member.isdir():
                plain = member.isfile() and not member.issparse()
                yield Member(member.name, member.offset_data, member.size, plain)


@pytest.mark.parametrize(
    "tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
)
@pytest.mark.parametrize("seed", range(20))
def test_the_same_members_as_pythons(tar_format: int, seed: int):
    random, made = Random(seed), io.BytesIO()
    kinds = [tarfile.REGTYPE] * 6 + [tarfile.AREGTYPE, tarfile.CONTTYPE, tarfile.DIRTYPE]
    kinds += [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
    names = ["a.jpg", "d/b.txt", "é/ü.json", "x" * 99, f"{'y' * 60}/{'z' * 90}", "\udce9.png", "d/"]
    if tar_format != tarfile.USTAR_FORMAT:
        names += ["é" * 200, "longer/" * 300 + "a.webp"]
    with tarfile.open(fileobj=made, mode="w", format=tar_format) as tar:
        for _ in range(random.randrange(30)):
            member = tarfile.TarInfo(random.choice(names))
            member.type = random.choice(kinds)
            member.linkname = "where" if member.type in b"12" else ""
            if tar_format == tarfile.PAX_FORMAT and random.random() < 0.3:
                member.pax_headers = {"comment": random.choice(names), "mtime": "1.5"}
            if member.isreg() and member.name != "d/":
                member.size = random.choice([0, 1, 511, 512, 513, 5000])
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    assert members(made.getvalue()) == list(by_tarfile(made.getvalue()))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_tar_gives_what_it_has_or_is_broken(name: str):
    tar, expected = HOSTILE[name]
    if isinstance(expected, str):
        with pytest.raises(BrokenTar, match=expected):
            members(tar)
    else:
        assert [(m.name, m.size, m.plain) for m in members(tar)] == expected


def test_a_cut_tar_is_broken_wherever_it_is_cut():
    whole = tar_of({"a.jpg": bytes(700), "l" * 200: b"x", "b.txt": b""})
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512
    borders = {0: 0, 512 + 1024: 1, end - 512: 2}  # "l" has a header and a name before its own
    for size in range(0, end):
        if size % 97 and size % 512 not in (0, 1, 188, 189, 511):
            continue
        if size and size in borders or 512 + 700 <= size <= 512 + 1024:
            continue
        with pytest.raises(BrokenTar, match="it is cut off") as raised:
            members(whole[:size])
        assert raised.value.detail == "cut_short"


@pytest.mark.parametrize(
    ("bytes_left", "count"),
    [
        (512 + 700, 1),  # the bytes are there, and the zeros that fill their block are not
        (512 + 1023, 1),
        (512 + 1024, 1),
        (-1024, 3),  # all members, and nothing of the end
        (-1023, 3),
        (-512, 3),
        (-1, 3),
    ],
)
def test_a_tar_without_the_zeros_of_its_end_is_whole(bytes_left: int, count: int):
    whole = tar_of({"a.jpg": bytes(700), "l" * 200: b"x", "b.txt": b""})
    whole = whole[: len(whole.rstrip(b"\0")) // 512 * 512 + 512 + 1024]
    cut = whole[:bytes_left]
    assert [member.name[:5] for member in members(cut)] == ["a.jpg", "lllll", "b.txt"][:count]
    with tarfile.open(fileobj=io.BytesIO(cut), mode="r:") as opened:
        assert opened.getnames()[0] == "a.jpg"


def test_members_before_a_cut_are_given():
    whole = tar_of({"a.jpg": bytes(700), "b.jpg": bytes(700), "c.jpg": bytes(700)})
    for place, count in ((0, 1), (512, 1), (512 + 699, 1), (512 + 700, 2)):
        found = []
        try:
            found += [m.name for m in tar_members(io.BytesIO(whole[: 1536 + place]))]
        except BrokenTar:
            source, found = tar_members(io.BytesIO(whole[: 1536 + place])), [next(source := tar_members(io.BytesIO(whole[: 1536 + place]))).name]
        assert len(found) == count


def test_one_flipped_bit_of_a_header_is_told():
    whole = bytearray(tar_of({"a.jpg": bytes(700)}))
    for bit in range(512 * 8):
        whole[bit // 8] ^= 1 << bit % 8
        if bytes(whole[148:156]).strip(b"\0 ") != b"" and not 148 <= bit // 8 < 156:
            with pytest.raises(BrokenTar, match="no tar header at byte 0"):
                members(bytes(whole))
        whole[bit // 8] ^= 1 << bit % 8


def test_a_tar_may_be_read_anywhere_meanwhile():
    source = io.BytesIO(tar_of({f"{n}.txt": b"%d" % n * 600 for n in range(9)}))
    found = []
    for member in tar_members(source):
        source.seek(member.at)
        found.append(source.read(member.size))
        source.seek(0, io.SEEK_END)
    assert found == [b"%d" % n * 600 for n in range(9)]


def test_memory_does_not_grow_with_the_members():
    block = header(b"a.txt", 0)
    source = io.BytesIO(block * 50_000 + END)
    tracemalloc.start()
    assert sum(1 for _ in tar_members(source)) == 50_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


def test_a_long_name_up_to_the_limit_is_read():
    name = b"n" * (MAX_EXTRA - 1) + b"\0"
    tar = header(b"l", len(name), b"L") + padded(name) + header(b"a", 0) + END
    assert members(tar)[0].name == "n" * (MAX_EXTRA - 1)
    name += b"\0"
    tar = header(b"l", len(name), b"L") + padded(name) + header(b"a", 0) + END
    with pytest.raises(BrokenTar, match="1,048,577 bytes"):
        members(tar)
