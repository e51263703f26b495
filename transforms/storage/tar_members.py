"""The members of a tar, header by header, whatever its bytes are.

Python's own reader keeps some 700 bytes of each member (0.7 GB of a million), answers a chain of
long names by recursion, reads as much as a header says, makes gigabytes of a sparse file's holes,
takes time quadratic in a header of digits, and for ever for a size below zero (until 3.11.14).
"""

from __future__ import annotations

import re
import struct
import tarfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from alignset.transforms.storage.broken_files import CUT_SHORT, DAMAGED, WRONG_FORMAT, FileFault

BLOCK = 512
MAX_EXTRA = 1 << 20  # bytes of a long name, or of POSIX's header of further records
_MAX_SIZE = 1 << 60  # bytes of a member; no file has a place beyond
_FILES = b"0\x007"
_BARE = b"123456"  # links, devices and folders: whatever their size says, nothing follows
_NUMBER = re.compile(rb"(?:[\0 ]*+([0-7]++))?(?:[\0 ].*)?", re.DOTALL)
_DECIMAL = re.compile(rb" *+(?=[0-9])0*+([0-9]{0,19}) *+")
_SIGNED = struct.Struct("148b8x356b")


class BrokenTar(FileFault):
    """The file is no tar from some byte on; says where.

    Args:
      member: the name of the one that is cut, where its header is whole.
    """

    def __init__(self, detail: str, fault: str, member: str | None = None) -> None:
        super().__init__(detail, fault)
        self.member = member


def _cut(size: int, within: str, member: str | None = None) -> BrokenTar:
    return BrokenTar(CUT_SHORT, f"it is cut off at byte {size}, within {within}", member)


def _damaged(fault: str) -> BrokenTar:
    return BrokenTar(DAMAGED, fault)


class Member(NamedTuple):
    """A member of a tar that is no folder.

    Attributes:
      at, size: where its bytes are in the file.
      plain: whether it is a regular file: no link, and not sparse.
    """

    name: str
    at: int
    size: int
    plain: bool


def tar_members(source: BinaryIO) -> Iterator[Member]:
    """The members of a tar in their order, each with all its bytes there; between two of them
    `source` may be read anywhere.

    Like GNU's tar, this reads a tar that lacks the zeros of its end.

    Raises:
      BrokenTar: a header is none, or the file ends within a header, a member's bytes or the zeros
        that fill its last block.
    """
    total, at = _checked_total(source), 0
    extra = shared = _Extra()
    while at < total and (header := _block(source, at)):
        kind, size = header[156:157], _checked_size(header, at)
        at += BLOCK
        if kind in (b"L", b"x", b"X"):
            extra = _with(extra, kind, _extra_body(source, at, size), at)
        elif kind == b"g":  # holds for all members behind it
            has_own = extra is not shared
            shared = _with(shared, kind, _extra_body(source, at, size), at)
            extra = extra if has_own else shared
        elif kind != b"K":  # where a link leads
            if kind == b"S":
                at = _behind_map(source, header, at)
            name = extra.name or _name(header)
            kind = b"5" if kind == b"\0" and name.endswith("/") else kind  # as before POSIX
            size = size if extra.size is None else extra.size
            if kind not in _BARE and at + size > total:
                raise _cut(total, "a member", name)
            if kind != b"5":
                yield Member(name, at, size, kind in _FILES and not extra.sparse)
            size, extra = 0 if kind in _BARE else size, shared
        at += size + -size % BLOCK
        if at > total:
            raise _cut(total, "the zeros behind a member")
    if at >= total and extra != shared:
        raise _cut(total, "a header")


def _checked_total(source: BinaryIO) -> int:
    """The bytes of a file that begins as a tar does."""
    total = source.seek(0, 2)
    if not total:
        raise BrokenTar(CUT_SHORT, "it is cut off: it has no bytes")
    if total > tarfile.RECORDSIZE and not _block(source, 0):  # an empty tar is no longer
        raise _damaged("it begins with zeros")
    return total


def _block(source: BinaryIO, at: int) -> bytes:
    """The block at a place; empty for the zeros that end a tar."""
    source.seek(at)
    block = source.read(BLOCK)
    if not block.strip(b"\0"):
        return b""
    if len(block) < BLOCK:
        raise _cut(at + len(block), "a header")
    return block


def _extra_body(source: BinaryIO, at: int, size: int) -> bytes:
    if size > MAX_EXTRA:
        raise _damaged(f"at byte {at} is a name or header of {size:,} bytes")
    source.seek(at)
    body = source.read(size)
    if len(body) < size:
        raise _cut(at + len(body), "a header")
    return body


class _Extra(NamedTuple):
    """What headers say of the members behind them, before the members' own."""

    name: str = ""
    size: int | None = None
    sparse: bool = False


def _with(extra: _Extra, kind: bytes, body: bytes, at: int) -> _Extra:
    if kind == b"L":  # GNU's long name
        return extra._replace(name=_text(body))
    end = 0
    while end < len(body) and body[end]:  # records, "LENGTH KEY=VALUE\n"
        space = body.find(b" ", end, end + 9)
        length = body[end : max(space, end)]
        stop = end + int(length) if length.isdigit() else 0
        if not space + 3 <= stop <= len(body):
            raise _damaged(f"no header's record at byte {at + end}")
        end = stop
        key, _, value = body[space + 1 : end - 1].partition(b"=")
        if key == b"path":
            extra = extra._replace(name=value.decode("utf-8", "surrogateescape"))
        elif key == b"size":
            extra = extra._replace(size=_possible(_decimal(value), at) if value else None)
        elif key.startswith(b"GNU.sparse."):
            extra = extra._replace(sparse=True)
    return extra


def _checked_size(header: bytes, at: int) -> int:
    """The size of the member, where the header's sum is right."""
    checksum = _octal(header, 148, 156)
    total = sum(header) - sum(header[148:156]) + 8 * 32  # the sum itself counts as spaces
    # To old writers, bytes beyond ASCII are negative.
    if checksum != total and checksum != sum(_SIGNED.unpack(header)) + 8 * 32:
        raise BrokenTar(DAMAGED if at else WRONG_FORMAT, f"no tar header at byte {at}")
    if header[124] == 0x80:  # GNU's, of a size that octal digits do not hold
        return _possible(int.from_bytes(header[125:136], "big"), at)
    return _possible(_octal(header, 124, 136), at)


def _octal(header: bytes, start: int, stop: int) -> int:
    """A number as headers have it; -1 where it is none."""
    number = _NUMBER.fullmatch(header, start, stop)
    return int(number[1] or b"0", 8) if number else -1


def _decimal(value: bytes) -> int:
    """A number as records have it; -1 where it is none, or longer than any size."""
    number = _DECIMAL.fullmatch(value)
    return int(number[1] or b"0") if number else -1


def _possible(size: int, at: int) -> int:
    if not 0 <= size < _MAX_SIZE:
        raise _damaged(f"at byte {at} is a member without a size")
    return size


def _name(header: bytes) -> str:
    prefix, name = _text(header[345:500]), _text(header[:100])
    return f"{prefix}/{name}" if prefix and header[257:263] == b"ustar\0" else name


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _behind_map(source: BinaryIO, header: bytes, at: int) -> int:
    """Where the bytes of GNU's sparse file begin: behind the blocks that tell its holes."""
    follows = header[482] != 0
    while follows:
        block = _block(source, at)
        follows = block[504:505] > b"\0"
        at += BLOCK
    return at
