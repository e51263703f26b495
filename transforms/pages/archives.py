"""Web archives to records: WARC and WAT, plain, gzip, zstd, within a second gzip, and the WARCs
within a WACZ, which is a zip of them.

A record is looked at only where its frame holds: its head can be read, and what follows its length
is the next record or the end. A broken frame costs that record alone: reading continues at the next
member of the archive, or at the next line that begins a record.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import chain, islice
from types import SimpleNamespace
from typing import Any, BinaryIO, NamedTuple, TypeVar

import zstandard

from alignset.transforms.storage.broken_files import WRONG_FORMAT, FileFault
from alignset.transforms.workers.unexpected import tell_once

# Why a record is broken.
BAD_COMPRESSION, CUT_OFF, UNREADABLE = "bad_compression", "cut_off", "unreadable"
BAD_HEAD, WRONG_LENGTH = "bad_head", "wrong_length"
GZIP, ZSTD, _ZSTD_DICTIONARY = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\x5d\x2a\x4d\x18"
MAX_RECORD = 1 << 26  # bytes of a record that is held in memory
READ, _MAX_HEAD = 1 << 20, 1 << 16
CHUNK = 1 << 11  # bytes that a decoder gets at once: of zstd they make 64 MiB at most
# Behind a fault, reading goes back to the next member that may begin there, at most so far; and
# what is decoded once more may be so many bytes, and so many times those that were read.
_AGAIN, _TIMES_AGAIN = 1 << 22, 4
_MAGIC = re.compile(rb"WARC/|\x1f\x8b\x08|\x28\xb5\x2f\xfd|\x5d\x2a\x4d\x18")
_NEXT = re.compile(rb"\n(?=WARC/\d+\.\d+[ \t]*\r?\n)")
_TEXT = re.compile(rb"[\r\n]*+(?=[^\r\n])")
_BEHIND = re.compile(rb"\r\n\r\n|[\r\n]*(?:\Z|WARC/)")
# No line of a head begins as a record does, so that each byte is looked at once.
_HEAD = re.compile(rb"WARC/\d+\.\d+[ \t]*\r?\n((?:(?!WARC/)[^\r\n][^\n]*+\n)*+)\r?\n")
# A name is tried from its first letter on, and a value ends at any line's end.
_FIELD = re.compile(rb"(?<![^:\s])([^:\s]++)[ \t]*+:[ \t]*+([^\n]*+(?:\n[ \t][^\n]*+)*+)\n")
_WARC_NAME = re.compile(r"\.warc(\.gz|\.zst)?$")
_MOST_GROWTH, LEAST_LIMIT = 16, 1 << 26  # times its size, or bytes, to which one may be unpacked
_LONGEST_DIRECTORY = 1 << 22  # bytes of a zip's list of its files, which takes ten times the memory


class Broken(NamedTuple):
    """A record or page that cannot be used, and the page's URL if it is known."""

    detail: str
    page: str = ""


class ArchiveRecord(NamedTuple):
    """A record whose frame holds; names of `fields` are lower-case."""

    fields: dict[bytes, bytes]
    block: bytes
    whole: bool = True  # else the block is only its beginning, since it is longer than MAX_RECORD

    @property
    def kind(self) -> bytes:
        return self.fields.get(b"warc-type", b"").lower()

    @property
    def target(self) -> str:
        """The URL that it is of; GNU wget writes it in angle brackets."""
        return self.fields.get(b"warc-target-uri", b"").decode("utf-8", "replace").strip("<>")


Found = ArchiveRecord | Broken
Piece = bytes | Broken | None  # of a member; why there will be no more of it; its end
T = TypeVar("T")


def read_records(source: BinaryIO) -> Iterator[Found]:
    """The records of an archive, and what is broken in it. Never raises for what it holds.

    Args:
      source: a file, open for reading, that can seek.
    """
    is_zip = source.read(4) == b"PK\x03\x04"
    size = source.seek(0, 2)
    source.seek(0)
    if is_zip:
        yield from _records_of_wacz(source, size)
    else:
        yield from _records(Stream(iter(partial(source.read, READ), b"")), size)


def check_archive(source: BinaryIO) -> None:
    """Looks for a record at the archive's beginning.

    Raises:
      FileFault: no record begins in this file.
    """
    if not any(isinstance(item, ArchiveRecord) for item in islice(read_records(source), 100)):
        raise FileFault(WRONG_FORMAT, "no WARC record begins in it")


def fields_of(lines: bytes) -> dict[bytes, bytes]:
    """The fields of a head by their names, which are lower-case; the first of a name counts."""
    return {name.lower(): value.strip() for name, value in reversed(_FIELD.findall(lines))}


def unreadable(error: Exception, page: str = "") -> Broken:
    """An unforeseen error of our code for a record or page: reported once a kind."""
    tell_once("reading a page or record", error)
    return Broken(UNREADABLE, page)


def read_to_end(items: Iterable[T], page: str = "") -> Iterator[T | Broken]:
    """As far as it goes: what of a page or archive nobody foresaw ends that alone."""
    try:
        yield from items
    except OSError:  # of the disk or network, not of what is read
        raise
    except Exception as error:
        yield unreadable(error, page)


class Stream:
    """Bytes that come in pieces.

    Attributes:
      data: those that are held. place: how many there were before them.
      fault: why they ended, if not as they should.
    """

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self._pieces, self._is_open = iter(pieces), True
        self.data, self.place = bytearray(), 0
        self.fault: Broken | None = None

    def has(self, size: int) -> bool:
        """Whether there are so many bytes; holds them."""
        while len(self.data) < size and self._is_open:
            piece = next(self._pieces, None)
            if isinstance(piece, bytes):
                self.data += piece
            else:
                self.fault, self._is_open = piece, False
        return len(self.data) >= size

    def drop(self, size: int) -> None:
        self.place += size
        while size > len(self.data) and self._is_open:
            size -= len(self.data)
            self.data.clear()
            self.has(1)
        del self.data[:size]


def read_compressed(source: Stream, magic: bytes) -> Iterator[Piece]:
    """Decodes gzip members, or frames of zstd by their dictionary, if one comes before them; behind
    a broken one comes the next that begins within it or behind it."""
    frames = _zstd_decoder(source) if magic == ZSTD else None
    again = 0  # bytes that were decoded in vain
    while source.has(1):
        decoder = frames.decompressobj() if frames else zlib.decompressobj(31)
        at, fault = 0, None
        try:
            while not decoder.eof and source.has(at + 1):
                part = source.data[at : at + CHUNK]
                at += len(part)
                if piece := decoder.decompress(part):
                    yield piece
                if at > 2 * _AGAIN:
                    source.drop(_AGAIN)
                    at -= _AGAIN
            fault = None if decoder.eof else Broken(CUT_OFF)
        except (zlib.error, zstandard.ZstdError):
            fault = Broken(BAD_COMPRESSION)
        yield fault
        if not fault:
            source.drop(at - len(decoder.unused_data))
            continue
        again += at
        source.drop(1 if again <= _AGAIN + _TIMES_AGAIN * (source.place + at) else at)
        begin = -1
        while begin < 0:
            if not source.has(len(magic)):
                return
            begin = source.data.find(magic)
            source.drop(begin if begin >= 0 else len(source.data) - len(magic) + 1)


def _zstd_decoder(source: Stream) -> zstandard.ZstdDecompressor:
    """With the dictionary that may stand in a frame of its own before the others, and is dropped;
    without it, if it is damaged."""
    if source.has(8) and source.data[:4] == _ZSTD_DICTIONARY:
        size = 8 + min(int.from_bytes(source.data[4:8], "little"), MAX_RECORD)
        source.has(size)
        data = bytes(source.data[8:size])
        source.drop(size)
        with suppress(zstandard.ZstdError):
            if data[:4] == ZSTD:  # the size that it declares may be anything
                data = zstandard.ZstdDecompressor().stream_reader(data).read(MAX_RECORD)
            return zstandard.ZstdDecompressor(zstandard.ZstdCompressionDict(data))
    return zstandard.ZstdDecompressor()


def _records_of_wacz(source: BinaryIO, size: int) -> Iterator[Found]:
    end = size
    # It goes and reads wherever the file's own bytes say; no disk seeks to 2^63 - 1.
    checked: Any = SimpleNamespace(
        tell=source.tell,
        seekable=source.seekable,
        seek=lambda place, whence=0: source.seek(
            place if whence else min(max(0, place), end), whence
        ),
        read=lambda size=-1: source.read(min(size, _LONGEST_DIRECTORY)),
    )
    try:
        wacz = zipfile.ZipFile(checked)
        files = sorted(wacz.infolist(), key=lambda file: file.filename)
    except OSError:  # of the disk or network: the zip's own faults are others
        raise
    except Exception:  # zipfile raises of seven kinds
        yield Broken(BAD_COMPRESSION)
        return
    for file in files:
        if _WARC_NAME.search(file.filename):
            size -= file.compress_size
            pieces = _unzipped(wacz, file, is_beyond=size < 0)
            yield from _records(Stream(_limited(pieces, file.compress_size)), file.file_size)


def _unzipped(wacz: zipfile.ZipFile, file: zipfile.ZipInfo, *, is_beyond: bool) -> Iterator[Piece]:
    """The file in pieces, unless files lie over each other: a zip of 10 MB may have 280 TB."""
    try:
        if is_beyond or file.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise zipfile.BadZipFile
        with wacz.open(file) as source:
            yield from iter(partial(source.read, READ), b"")
    except OSError:
        raise
    except Exception:
        yield Broken(BAD_COMPRESSION)


def _limited(pieces: Iterable[Piece], size: int) -> Iterator[Piece]:
    """The pieces unpacked from so many bytes, as one, up to a limit; and the last fault."""
    fault, room = None, max(LEAST_LIMIT, _MOST_GROWTH * size)
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece[:room]
            room -= len(piece)
        else:
            fault = piece or fault
        if room < 0:
            fault = Broken(CUT_OFF)
            break
    yield fault


def _records(stream: Stream, size: int, *, within_gzip: bool = False) -> Iterator[Found]:
    """The records of an archive of so many bytes, by what comes first in it: its own beginning may
    be damaged."""
    stream.has(READ)
    first = _MAGIC.search(stream.data, 0, READ)
    if not first or first[0] == b"WARC/":
        yield from _records_of_member(stream, size)
        return
    magic = GZIP if first[0] == GZIP else ZSTD
    pieces, may_be_outer = read_compressed(stream, magic), magic == GZIP and not within_gzip
    for piece in pieces:
        member = Stream(chain([piece], pieces))
        if may_be_outer and member.has(3) and member.data[:3] == GZIP:
            whole = Stream(_limited(chain([bytes(member.data)], pieces), size))
            yield from _records(whole, size, within_gzip=True)
            return
        may_be_outer &= not member.data
        yield from _records_of_member(member, 1 << 62)
    if stream.fault:
        yield stream.fault


def _records_of_member(member: Stream, longest: int) -> Iterator[Found]:
    last: Broken | None = None  # what is broken, if that came last: a fault has cut it
    while True:
        if begin := _NEXT.search(member.data) if last else _TEXT.match(member.data):
            member.drop(begin.end())
            if last:
                yield last
            item = _framed(member, longest)
            last = item if isinstance(item, Broken) else None
            if not last:
                yield item
        else:
            member.drop(max(0, len(member.data) - 32))  # a line may have begun
            if not member.has(len(member.data) + 1):
                break
    if last and member.fault:
        last = last._replace(detail=member.fault.detail)
    yield from filter(None, [last or member.fault])


def _framed(member: Stream, longest: int) -> Found:
    """The record that begins here, which is dropped from the member; or why there is none."""
    is_cut = not member.has(_MAX_HEAD)
    head = _HEAD.match(member.data, 0, _MAX_HEAD)
    if not head:
        is_cut = is_cut and b"WARC/".startswith(member.data[:5])
        return Broken(CUT_OFF if is_cut else BAD_HEAD)
    record = ArchiveRecord(fields_of(head[1]), b"")
    length = record.fields.get(b"content-length", b"")
    if not length.isdigit() or len(length) > 18:
        return Broken(BAD_HEAD, record.target)
    size, start = int(length), head.end()
    if size > longest:
        return Broken(WRONG_LENGTH, record.target)
    stop = start + (size if size <= MAX_RECORD else _MAX_HEAD)
    if not member.has(stop):
        return Broken(CUT_OFF, record.target)
    if size <= MAX_RECORD:
        member.has(stop + 9)
        if not _BEHIND.match(member.data, stop, stop + 9):
            return Broken(WRONG_LENGTH, record.target)
    block = bytes(memoryview(member.data)[start:stop])
    member.drop(start + size)
    return ArchiveRecord(record.fields, block, size <= MAX_RECORD)
