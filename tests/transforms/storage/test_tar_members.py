"""Tars as Python's own reader has them, and those that it does not survive."""

import io
import subprocess
import tarfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import webdataset

from alignset.train.data.samples import shard_files
from alignset.train.data.shard_streams import ShardStream
from alignset.transforms.storage.tar_members import MAX_EXTRA, BrokenTar, Member, tar_members
from tests.support.hostile_tars import HOSTILE, header, padded, tar_of

END = bytes(1024)


def members(tar: bytes) -> list[Member]:
    return list(tar_members(io.BytesIO(tar)))


def by_tarfile(tar: bytes) -> Iterator[tuple[str, int, int, bool]]:
    with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as opened:
        for member in opened:
            if not member.isdir():
                plain = member.isfile() and not member.issparse()
                yield member.name, member.offset_data, member.size, plain


@pytest.mark.parametrize(
    "tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
)
@pytest.mark.parametrize("seed", range(6))
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
    assert [m[:4] for m in members(made.getvalue())] == list(by_tarfile(made.getvalue()))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_tar_gives_what_it_has_or_is_broken(name: str):
    tar, expected = HOSTILE[name]
    if isinstance(expected, str):
        with pytest.raises(BrokenTar, match=expected):
            members(tar)
    else:
        assert [(m.name, m.size, m.plain) for m in members(tar)] == expected


def as_far(tar: bytes) -> tuple[list[str], str]:
    """The members that are given, by their first letters, and why there are no more."""
    names = []
    try:
        for member in tar_members(io.BytesIO(tar)):
            names.append(member.name[0])
    except BrokenTar as error:
        return names, f"{error.detail} {str(error)[:13]}"
    return names, ""


def test_a_cut_tar_has_the_members_before_and_is_broken_within_one():
    """Or within the zeros that fill its last block, which GNU's tar and webdataset refuse too."""
    whole = tar_of({"a.jpg": bytes(700), "l" * 200: b"x", "b.txt": b""})
    assert len(whole) > 5000
    # a.jpg is at 0, a POSIX header of the second's name at 1536, and b.txt at 3584.
    ends = [(512 + 700, 1536), (3072 + 1, 3584), (3584 + 512, len(whole))]
    borders = {place + near for pair in ends for place in pair for near in (-1, 0, 1)}
    sizes = {*range(0, 5000, 97), *range(0, 5000, 512), *borders, 5000}
    for size in sorted(size for size in sizes if size <= len(whole)):
        names = [name for name, (end, _) in zip("alb", ends, strict=True) if size >= end]
        is_whole = size in (until for _, until in ends) or size >= ends[-1][0]
        assert as_far(whole[:size]) == (names, "" if is_whole else "cut_short it is cut off"), size


@pytest.mark.parametrize("left", [0, 511, 1023])
def test_the_zeros_of_the_end_may_be_missing_as_to_tar_and_webdataset(tmp_path: Path, left: int):
    files = {f"{n}.{kind}": b"x" * 512 for n in range(3) for kind in ("jpg", "txt")}
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of(files)[: 6 * 1024 + left])
    names = [member.name for member in members(path.read_bytes())]
    assert names == list(files)
    listed = subprocess.run(["tar", "tf", path], capture_output=True, text=True, check=True)
    assert listed.stdout.split() == names
    samples = webdataset.WebDataset(str(path), shardshuffle=False)
    assert [sample["__key__"] for sample in samples] == ["0", "1", "2"]


@pytest.mark.parametrize(("size", "whole"), [(1024, True), (10_240, True), (10_241, False)])
def test_a_file_of_zeros_is_an_empty_tar_or_damaged(size: int, whole: bool):
    """As a power cut leaves a file; Python and GNU's tar write 10,240 of an empty one."""
    assert as_far(bytes(size)) == ([], "" if whole else "damaged it begins wit")
    with tarfile.open(fileobj=(empty := io.BytesIO()), mode="w:"):
        pass
    assert len(empty.getvalue()) == 10_240


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
    bodies = []
    for member in tar_members(source):
        source.seek(member.at)
        bodies.append(source.read(member.size))
        source.seek(0, io.SEEK_END)
    assert bodies == [b"%d" % n * 600 for n in range(9)]


def test_memory_does_not_grow_with_the_members():
    block = header(b"a.txt", 0)
    source = io.BytesIO(block * 50_000 + END)
    tracemalloc.start()
    assert sum(1 for _ in tar_members(source)) == 50_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000  # 20 bytes a member: other threads of the tests take some meanwhile


def test_a_long_name_up_to_the_limit_is_read():
    name = b"n" * (MAX_EXTRA - 1) + b"\0"
    tar = header(b"l", len(name), b"L") + padded(name) + header(b"a", 0) + END
    assert members(tar)[0].name == "n" * (MAX_EXTRA - 1)
    name += b"\0"
    tar = header(b"l", len(name), b"L") + padded(name) + header(b"a", 0) + END
    with pytest.raises(BrokenTar, match="1,048,577 bytes"):
        members(tar)


def test_tars_behind_each_other_are_read_to_their_ends_as_for_training(tmp_path: Path):
    parts = [tar_of({"a.jpg": bytes(700), "a.txt": b"1"}), tar_of({}), tar_of({"a.txt": b"2"})]
    joined = b"".join(parts)
    found = [(m.name, m.tar, joined[m.at : m.at + m.size]) for m in members(joined)]
    assert found == [("a.jpg", 0, bytes(700)), ("a.txt", 0, b"1"), ("a.txt", 1, b"2")]
    (tmp_path / "a.tar").write_bytes(joined)
    with ShardStream(str(tmp_path / "a.tar"), 0) as stream:
        assert [(m.name, m.tar) for m in shard_files(stream)] == [found[n][:2] for n in range(3)]
    assert as_far(joined + b"x" * 512) == (["a", "a", "a"], "damaged no tar header")
