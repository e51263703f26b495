"""Tar files that the standard library reads for ever, or raises at as no error of tar."""

import io
import tarfile
from typing import Literal

import pytest

from transforms.tar_files import tar_members

MODES: tuple[Literal["r:", "r|"], ...] = ("r:", "r|")
END = bytes(2 * tarfile.BLOCKSIZE)


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


def file(name: str, body: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    return header(name, len(body), kind) + body + bytes(-len(body) % tarfile.BLOCKSIZE)


def of_next(*fields: bytes) -> bytes:
    """What is told of the next member, as pax has it: each field behind the size of its line."""
    lines = b""
    for field in fields:
        rest = b" " + field + b"\n"
        size = next(n for n in range(1000) if n == len(str(n)) + len(rest))
        lines += str(size).encode() + rest
    return file("x", lines, tarfile.XHDTYPE)


def members(body: bytes, mode: Literal["r:", "r|"]) -> list[tuple[str, bytes]]:
    found = []
    for tar, member in tar_members(io.BytesIO(body), mode):
        assert len(tar.members) <= 1  # a tar of many is not kept in memory
        extracted = tar.extractfile(member)
        found.append((member.name, extracted.read() if extracted else b""))
    return found


@pytest.mark.parametrize("mode", MODES)
def test_the_members_of_good_files(mode) -> None:
    long = "f" * 4000
    body = file("a.txt", b"one") + of_next(b"path=\xc3\xa9.txt") + file("b", b"two")
    body += file("@", long.encode() + b"\0", tarfile.GNUTYPE_LONGNAME) + file("c", b"x" * 600)
    expected = [("a.txt", b"one"), ("é.txt", b"two"), (long, b"x" * 600)]
    assert members(body + END, mode) == expected
    assert members(END, mode) == []


BAD = {
    "a size below 0": file("a", b"") + header("a", -512) + file("a", b""),
    "told to be below 0": file("a", b"") + of_next(b"size=-1024") + file("a", b""),
    "a size beyond any": header("a", 1 << 80),
    "told to be beyond any": of_next(b"size=%d" % (1 << 80)) + file("a", b"x"),
    "64 KiB of digits": file("x", b"1" * (1 << 16), tarfile.XHDTYPE) + file("a", b""),
    "a name of 1 MB": file("@", b"x" * 10**6, tarfile.GNUTYPE_LONGNAME) + file("a", b""),
    "no numbers": of_next(b"GNU.sparse.map=a,b", b"GNU.sparse.size=1") + file("a", b""),
    "each names the next": file("@", b"x", tarfile.GNUTYPE_LONGNAME) * 5000 + file("a", b""),
    "no tar": b"x" * 1024,
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", BAD)
def test_what_is_no_tar_is_an_error_of_tar(case: str, mode) -> None:
    with pytest.raises(tarfile.TarError):
        members(BAD[case] + END, mode)


@pytest.mark.parametrize("left_out", [0, 200, 512, 700, 1024, 1300])
def test_a_file_that_is_cut(left_out: int) -> None:
    body = file("a.txt", b"one") + file("b.txt", b"two")
    with pytest.raises(tarfile.TarError):
        members(body[: len(body) - left_out], "r:")
