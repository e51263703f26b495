"""Web archives to records: WARC and WAT, plain, gzip, zstd, and the WARCs within a WACZ.

A record is looked at only where its frame holds: its head can be read, and what follows its length
is the next record or the end. A broken frame costs that record alone: reading continues at the next
member of the archive, or at the next line that begins a record.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from alignset.transforms.pages.archive_files import archives_of
from alignset.transforms.pages.archive_members import (
    CUT_OFF,
    MAX_RECORD,
    READ,
    Broken,
    read_members,
)
from alignset.transforms.storage.broken_files import WRONG_FORMAT, FileFault

# Why a record is broken, beside what is broken in the compression.
BAD_HEAD, WRONG_LENGTH = "bad_head", "wrong_length"
_MAX_HEAD = 1 << 16
_LINE = re.compile(rb"WARC/\d+\.\d+[ \t]*\r?\n")
_BLANK = re.compile(rb"\n[\r\n]")  # behind the last line of a head
# A name is tried from its first letter on, and a value ends at any line's end, so that each byte is
# looked at once.
_FIELD = re.compile(rb"(?<![^:\s])([^:\s]++)[ \t]*+:[ \t]*+([^\n]*+(?:\n[ \t][^\n]*+)*+)\n")


class ArchiveRecord(NamedTuple):
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


Found = ArchiveRecord | Broken


def _target(fields: dict[bytes, bytes]) -> str:
    return fields.get(b"warc-target-uri", b"").decode("utf-8", "replace").strip("<>")


def read_records(source: BinaryIO) -> Iterator[Found]:
    """The records of an archive, and what is broken in it. Never raises for what it holds.

    Args:
      source: a file, open for reading, that can seek.
    """
    for item in read_members_or_records(source):
        if isinstance(item, bytearray):
            yield from records_of(item)
        else:
            yield item


def read_members_or_records(source: BinaryIO) -> Iterator[bytearray | Found]:
    """The records of an archive, but for members that were decompressed at once: these are given as
    they are, for `records_of`."""
    for archive in archives_of(source):
        if isinstance(archive, Broken):
            yield archive
            continue
        events, longest = read_members(archive)
        frame = _Frame(longest)
        for event in events:
            if isinstance(event, bytearray):
                yield event
            elif isinstance(event, bytes):
                yield from frame.add(event)
            else:
                yield from frame.end(event)
                frame = _Frame(longest)


def records_of(member: bytearray) -> Iterator[Found]:
    """The records of a whole member."""
    frame = _Frame(len(member))
    frame.buffer = member
    return frame.end(None)


def check_archive(source: BinaryIO) -> None:
    """Looks for a record at the archive's beginning.

    Raises:
      FileFault: no record begins in this file.
    """
    for number, item in enumerate(read_records(source)):
        if isinstance(item, ArchiveRecord):
            return
        if number == 100:
            break
    raise FileFault(WRONG_FORMAT, "no WARC record begins in it")


class _Frame:
    """The buffer of a member, and the position in it."""

    def __init__(self, longest: int) -> None:
        self.longest = longest
        self.buffer = bytearray()
        self.at = 0
        self.least_bytes = READ  # in the buffer, for a look: all of a usual member
        self.blank = -1  # where the next blank line is, if that is known
        self.skip = 0  # bytes still to come of a record that is not held
        self.is_lost = False  # looking for the next line that begins a record

    def add(self, piece: bytes) -> Iterator[Found]:
        """The records that are whole once this piece has come."""
        passed_bytes = min(self.skip, len(piece))
        self.skip -= passed_bytes
        self.buffer += memoryview(piece)[passed_bytes:]
        if len(self.buffer) >= self.least_bytes:
            yield from self._parse(final=False)

    def end(self, fault: Broken | None) -> Iterator[Found]:
        """The member ends, as it should or not."""
        is_cut = self.skip > 0
        yield from self._parse(final=True, fault=fault)
        if fault and not self.is_lost and is_cut:
            yield fault

    def _parse(self, final: bool, fault: Broken | None = None) -> Iterator[Found]:
        has_said = False
        self.least_bytes, self.blank = 0, -1
        while True:
            item = self._next(final)
            if item is None:
                break
            if fault and isinstance(item, Broken) and self.is_lost and self._start() < 0:
                item, has_said = item._replace(detail=fault.detail), True
            yield item
        if final:
            if fault and not has_said and not self.skip:
                yield fault
            return
        passed_bytes = max(0, self.at - 1)  # the byte before tells whether a line begins there
        del self.buffer[:passed_bytes]
        self.at -= passed_bytes
        self.least_bytes = max(READ, self.least_bytes - passed_bytes)

    def _start(self) -> int:
        """Where the next line is that begins a record, or -1."""
        buffer, at = self.buffer, self.buffer.find(b"WARC/", self.at)
        while at > 0 and (buffer[at - 1] != ord("\n") or not _LINE.match(buffer, at)):
            at = buffer.find(b"WARC/", at + 1)
        return at

    def _next(self, final: bool) -> Found | None:
        """The next thing found; None where more is needed, or nothing is left."""
        buffer = self.buffer
        if self.is_lost:
            start = self._start()
            if start < 0:
                self.at = len(buffer) if final else max(self.at, len(buffer) - 32)
                return None
            self.at, self.is_lost = start, False
        while self.at < len(buffer) and buffer[self.at] in b"\r\n":
            self.at += 1
        if self.at == len(buffer):
            return None
        head = self._head()
        if not head:
            may_begin = b"WARC/".startswith(buffer[self.at : self.at + 5])
            to_come = len(buffer) - self.at < _MAX_HEAD and may_begin
            if to_come and not final:
                return None
            return self._broken(CUT_OFF if to_come else BAD_HEAD, self.at + 1, {})
        fields, start = head
        length = fields.get(b"content-length", b"")
        if not length.isdigit() or len(length) > 18:
            return self._broken(BAD_HEAD, start, fields)
        return self._framed(start, int(length), fields, final)

    def _head(self) -> tuple[dict[bytes, bytes], int] | None:
        """The fields of the record that begins here, and where its block does."""
        buffer = self.buffer
        line = _LINE.match(buffer, self.at, self.at + _MAX_HEAD)
        if not line:
            return None
        if self.blank < line.end() - 1:  # else it was found for a record before
            blank = _BLANK.search(buffer, line.end() - 1)
            self.blank = blank.start() if blank else len(buffer)
        end = self.blank + 1
        start = end + (2 if buffer[end : end + 1] == b"\r" else 1)
        if end - self.at > _MAX_HEAD or buffer[start - 1 : start] != b"\n":
            return None
        fields = _FIELD.findall(buffer[line.end() : end])
        return {name.lower(): value.rstrip(b"\r") for name, value in fields}, start

    def _framed(
        self, start: int, length: int, fields: dict[bytes, bytes], final: bool
    ) -> Found | None:
        buffer, stop = self.buffer, start + length
        if stop > len(buffer):
            if length > self.longest:
                return self._broken(WRONG_LENGTH, start, fields)
            if final:
                return self._broken(CUT_OFF, start, fields)
            held_whole = length <= MAX_RECORD
            self.least_bytes = stop + 9 if held_whole else start + _MAX_HEAD
            if held_whole or len(buffer) < self.least_bytes:
                return None
            self.skip = stop - len(buffer)
            self.at = len(buffer)
            return ArchiveRecord(fields, bytes(buffer[start : start + _MAX_HEAD]), whole=False)
        behind = bytes(buffer[stop : stop + 9])
        if len(behind) < 9 and not final:
            self.least_bytes = stop + 9
            return None
        if behind[:4] != b"\r\n\r\n" and behind.lstrip(b"\r\n")[:5] not in (b"", b"WARC/"):
            return self._broken(WRONG_LENGTH, start, fields)
        self.at = stop
        block = memoryview(buffer)[start:stop]
        # What is held will grow: no view.
        return ArchiveRecord(fields, block if final else bytes(block))

    def _broken(self, detail: str, at: int, fields: dict[bytes, bytes]) -> Broken:
        self.at, self.is_lost = at, True
        return Broken(detail, _target(fields))
