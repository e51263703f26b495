"""Web archives to records: WARC and WAT, plain, gzip, zstd, and the WARCs within a WACZ.

A record is looked at only where its frame holds: its head can be read, and what follows its length
is the next record or the end. What does not hold costs that record alone: reading goes on at the
next member of the archive, or at the next line that begins a record.
"""

from __future__ import annotations

import re
import tempfile
import zipfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from transforms.archive_members import (
    CUT_OFF,
    GZIP,
    MAX_RECORD,
    READ,
    Broken,
    read_compressed,
    read_members,
)

# Why a record is broken, beside what is broken in the compression.
BAD_HEAD, WRONG_LENGTH = "bad_head", "wrong_length"
_MAX_HEAD = 1 << 16
_ZIP = b"PK\x03\x04"
_HEAD = re.compile(rb"WARC/\d+\.\d+[ \t]*\r?\n((?:[^\r\n][^\n]*\n)*?)\r?\n")
_FIELD = re.compile(rb"([^:\s]+)[ \t]*:[ \t]*([^\r\n]*(?:\r?\n[ \t][^\r\n]*)*)\r?\n")
_START = re.compile(rb"(?:^|(?<=\n))WARC/\d+\.\d+[ \t]*\r?\n")


class Record(NamedTuple):
    """A record whose frame holds; names of `fields` are lower-case."""

    fields: dict[bytes, bytes]
    block: bytes | memoryview
    whole: bool = True  # else the block is only its beginning, since it is longer than MAX_RECORD

    @property
    def kind(self) -> bytes:
        return self.fields.get(b"warc-type", b"").lower()

    @property
    def target(self) -> str:
        """The URL that it is of; GNU wget writes it in angle brackets."""
        return _target(self.fields)


Found = Record | Broken


def _target(fields: dict[bytes, bytes]) -> str:
    return fields.get(b"warc-target-uri", b"").decode("utf-8", "replace").strip("<>")


def read_records(source: BinaryIO) -> Iterator[Found]:
    """The records of an archive, and what is broken in it. Never raises for what it holds.

    Args:
      source: a file, open for reading, that can seek.
    """
    for one in read_members_or_records(source):
        if isinstance(one, bytearray):
            yield from records_of(one)
        else:
            yield one


def read_members_or_records(source: BinaryIO) -> Iterator[bytearray | Found]:
    """The same, but members that were decompressed at once are given as they are, for
    `records_of`."""
    for one in _archives(source):
        events, longest = read_members(one)
        frame = _Frame(longest)
        for event in events:
            if isinstance(event, bytearray):
                yield event
            else:
                yield from frame.take(event)


def records_of(member: bytearray) -> Iterator[Found]:
    """The records of a whole member."""
    frame = _Frame(len(member))
    frame.held = member
    return frame.end(None)


def check_archive(source: BinaryIO) -> None:
    """Raises:
    ValueError: no record begins in this file.
    """
    for number, found in enumerate(read_records(source)):
        if isinstance(found, Record):
            return
        if number == 100:
            break
    raise ValueError("no WARC record begins in it")


def _archives(source: BinaryIO) -> Iterator[BinaryIO]:
    """The WARCs within a file: itself, or those of a WACZ; without a second gzip around all."""
    head = source.read(4)
    source.seek(0)
    if head == _ZIP:
        with zipfile.ZipFile(source) as wacz:
            for name in sorted(wacz.namelist()):
                if re.search(r"\.warc(\.gz|\.zst)?$", name):
                    with wacz.open(name) as one:
                        yield from _archives(one)  # type: ignore[arg-type]
        return
    if head[:3] == GZIP:
        first = next(read_compressed(source, GZIP), None)
        source.seek(0)
        if isinstance(first, bytes | bytearray) and first[:3] == GZIP:
            yield from _archives(_unpacked(source))
            return
    yield source


def _unpacked(source: BinaryIO) -> BinaryIO:
    """What a gzip file holds, as far as it can be read, in a temporary file."""
    sink = tempfile.TemporaryFile()  # noqa: SIM115, as long as it is read
    for event in read_compressed(source, GZIP):
        if isinstance(event, bytes | bytearray):
            sink.write(event)
    sink.seek(0)
    return sink


class _Frame:
    """What is held of a member, and where in it reading stands."""

    def __init__(self, longest: int) -> None:
        self.longest = longest
        self.held: bytes | bytearray = b""
        self.at = 0
        self.skip = 0  # bytes still to come of a record that is not held
        self.lost = False  # looking for the next line that begins a record

    def take(self, event: bytes | Broken | None) -> Iterator[Found]:
        """The records that are whole once this piece, or end, has come."""
        return self.add(event) if isinstance(event, bytes) else self.end(event)

    def add(self, piece: bytes) -> Iterator[Found]:
        if self.skip:
            gone = min(self.skip, len(piece))
            self.skip -= gone
            piece = piece[gone:]
        if self.held:
            self.held = bytearray(self.held)[self.at :] if self.at else bytearray(self.held)
            self.held += piece
        else:
            self.held = piece
        self.at = 0
        if len(self.held) >= READ:  # a usual member is looked at once, at its end
            yield from self._parse(final=False)

    def end(self, broken: Broken | None) -> Iterator[Found]:
        """The member ends, as it should or not."""
        cut = self.skip > 0
        yield from self._parse(final=True, broken=broken)
        if broken and not self.lost and cut:
            yield broken
        self.held, self.at, self.skip, self.lost = b"", 0, 0, False

    def _parse(self, final: bool, broken: Broken | None = None) -> Iterator[Found]:
        told = False
        while True:
            found = self._next(final)
            if found is None:
                break
            if broken and isinstance(found, Broken) and self._used_up():
                found, told = found._replace(detail=broken.detail), True
            yield found
        if final:
            if broken and not told and not self.skip:
                yield broken
            return
        if self.at:
            self.held, self.at = bytes(self.held[self.at :]), 0

    def _used_up(self) -> bool:
        return self.lost and not _START.search(self.held, self.at)

    def _next(self, final: bool) -> Found | None:
        """The next thing found; None where more is needed, or nothing is left."""
        held = self.held
        if self.lost:
            start = _START.search(held, self.at)
            if not start:
                self.at = len(held) if final else max(self.at, len(held) - 32)
                return None
            self.at, self.lost = start.start(), False
        while self.at < len(held) and held[self.at] in b"\r\n":
            self.at += 1
        if self.at == len(held):
            return None
        head = _HEAD.match(held, self.at)
        if not head:
            if not final and len(held) - self.at < _MAX_HEAD and _may_begin(held, self.at):
                return None
            return self._broken(BAD_HEAD if not final else self._why_no_head(), self.at + 1, {})
        fields = {name.lower(): value for name, value in _FIELD.findall(head[1])}
        length = fields.get(b"content-length", b"")
        if not length.isdigit() or len(length) > 18:
            return self._broken(BAD_HEAD, head.end(), fields)
        return self._framed(head.end(), int(length), fields, final)

    def _why_no_head(self) -> str:
        return CUT_OFF if _may_begin(self.held, self.at) else BAD_HEAD

    def _framed(
        self, start: int, length: int, fields: dict[bytes, bytes], final: bool
    ) -> Found | None:
        held, stop = self.held, start + length
        if stop > len(held):
            if length > self.longest:
                return self._broken(WRONG_LENGTH, start, fields)
            if final:
                return self._broken(CUT_OFF, start, fields)
            if length <= MAX_RECORD or len(held) - start < _MAX_HEAD:
                return None
            self.skip = stop - len(held)
            self.at = len(held)
            return Record(fields, bytes(held[start : start + _MAX_HEAD]), whole=False)
        behind = held[stop : stop + 9]
        if len(behind) < 9 and not final:
            return None
        if behind[:4] != b"\r\n\r\n" and behind.lstrip(b"\r\n")[:5] not in (b"", b"WARC/"):
            return self._broken(WRONG_LENGTH, start, fields)
        self.at = stop
        if isinstance(held, bytearray) and not final:  # it will grow: no view of it can be kept
            return Record(fields, bytes(held[start:stop]))
        return Record(fields, memoryview(held)[start:stop])

    def _broken(self, detail: str, at: int, fields: dict[bytes, bytes]) -> Broken:
        self.at, self.lost = at, True
        return Broken(detail, _target(fields))


def _may_begin(held: bytes | bytearray, at: int) -> bool:
    return b"WARC/".startswith(bytes(held[at : at + 5]))
