"""Compressed archives to the pieces of their members; behind a broken member comes the next."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple, TypeVar

import deflate
import zstandard

from alignset.transforms.workers.unexpected import tell_once

BAD_COMPRESSION, CUT_OFF, UNREADABLE = "bad_compression", "cut_off", "unreadable"
MAX_RECORD = 1 << 26  # bytes of a record that is held in memory
GZIP, ZSTD = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"
_ZSTD_DICTIONARY = b"\x5d\x2a\x4d\x18"
_PIECE = 1 << 24  # bytes that a compressed chunk may grow to at once
# Bytes that are fed to a decoder, and to begin with: what is behind the member is copied back.
_CHUNK, FIRST_CHUNK = 1 << 16, 1 << 7
READ = 1 << 20
# Behind a fault, reading goes back to the next member that may begin there, and what is decoded
# once more for it may be so many bytes, and so many times those that were read; then it goes on.
_AGAIN, _TIMES_AGAIN = 1 << 22, 4
_GZIP, _SIZE, _LEAST = re.compile(re.escape(GZIP)), struct.Struct("<I"), 18  # bytes of a member


class Broken(NamedTuple):
    """A record or page that cannot be used, and the page's URL if it is known."""

    detail: str
    page: str = ""


T = TypeVar("T")


def unreadable(error: Exception, page: str = "") -> Broken:
    """An unforeseen error of our code for a record or page: reported once a kind."""
    tell_once("reading a page or record", error)
    return Broken(UNREADABLE, page)


def to_the_end(items: Iterable[T], page: str = "") -> Iterator[T | Broken]:
    """As far as it goes: what of a page or archive nobody foresaw ends that alone."""
    try:
        yield from items
    except OSError:  # of the disk or network, not of what is read
        raise
    except Exception as error:
        yield unreadable(error, page)


# A piece of a member; why there will be no more of it; its end; or a whole one at once.
Event = bytes | Broken | None | bytearray


def read_members(source: BinaryIO) -> tuple[Iterator[Event], int]:
    """Contents of an archive, piece by piece, and the limit of a record's length."""
    start = source.tell()
    head = source.read(READ)
    size = source.seek(0, io.SEEK_END)
    source.seek(start)
    # By what comes first: the file's own beginning may be damaged.
    first = re.search(rb"WARC/|\x1f\x8b\x08|\x28\xb5\x2f\xfd|\x5d\x2a\x4d\x18", head)
    magic = first[0] if first else b""
    if magic == GZIP:
        return read_compressed(source, GZIP), 1 << 62
    if magic in (ZSTD, _ZSTD_DICTIONARY):
        return read_compressed(source, ZSTD, _decompressor(source)), 1 << 62
    return _plain_pieces(source), size


class _Input:
    """A file that is read ahead, in which one can go back."""

    def __init__(self, source: BinaryIO) -> None:
        self.source = source
        self._data, self._at, self._begin = b"", 0, source.tell()

    @property
    def place(self) -> int:
        return self._begin + self._at

    def take(self, most: int) -> memoryview:
        if self._at == len(self._data):
            self._read_on(self._at)
        part = memoryview(self._data)[self._at : self._at + most]
        self._at += len(part)
        return part

    def _read_on(self, start: int) -> bool:
        """Holds the next bytes behind those from `start` on; False at the end of the file."""
        more = self.source.read(READ)
        self._data, self._begin, self._at = self._data[start:] + more, self._begin + start, 0
        return bool(more)

    def go_to(self, place: int) -> None:
        if self._begin <= place <= self._begin + len(self._data):
            self._at = place - self._begin
        else:
            self.source.seek(place)
            self._data, self._at, self._begin = b"", 0, place

    def whole_members(self) -> Iterator[bytearray]:
        """The gzip members from here on, as long as each ends where the next begins or the file
        ends, is not a bomb, and all is well with it. Faster than bit by bit: 15 ms for 20."""
        while True:
            data = memoryview(self._data)
            for begin in _GZIP.finditer(self._data, self._at + 1):
                whole = _inflated(data[self._at : begin.start()])
                if whole is None:
                    return
                self._at = begin.start()
                yield whole
            if len(self._data) - self._at >= READ:  # a large one
                return
            if not self._read_on(self._at):
                if (whole := _inflated(memoryview(self._data))) is not None:
                    self._at = len(self._data)
                    yield whole
                return

    def find(self, magic: bytes) -> bool:
        """Goes to the next place of some bytes; False at the end."""
        while (place := self._data.find(magic, self._at)) < 0:
            if not self._read_on(max(self._at, len(self._data) - len(magic) + 1)):
                return False
        self._at = place
        return True


def _plain_pieces(source: BinaryIO) -> Iterator[Event]:
    while piece := source.read(READ):
        yield piece
    yield None


def _decompressor(source: BinaryIO) -> zstandard.ZstdDecompressor:
    """With the dictionary that may stand in a frame of its own before the others, and reading
    continues behind it; without it, if it is damaged."""
    head = source.read(8)
    if head[:4] != _ZSTD_DICTIONARY:
        source.seek(-len(head), io.SEEK_CUR)
        return zstandard.ZstdDecompressor()
    data = source.read(min(int.from_bytes(head[4:], "little"), MAX_RECORD))
    try:
        if data[:4] == ZSTD:  # the size that it declares may be anything
            data = zstandard.ZstdDecompressor().stream_reader(data).read(MAX_RECORD)
        return zstandard.ZstdDecompressor(zstandard.ZstdCompressionDict(data))
    except zstandard.ZstdError:
        return zstandard.ZstdDecompressor()


def read_compressed(
    file: BinaryIO, magic: bytes, frames: zstandard.ZstdDecompressor | None = None
) -> Iterator[Event]:
    """The members of a compressed archive from where it stands; behind a broken one the next."""
    source = _Input(file)
    again = furthest = 0
    while True:
        if magic == GZIP:
            yield from source.whole_members()
        start, chunk, decoder = source.place, FIRST_CHUNK, _Unzstd(frames) if frames else _Gunzip()
        try:
            while not decoder.eof and (part := source.take(min(chunk, decoder.chunk))):
                chunk *= 2
                piece, unused = decoder(part)
                source.go_to(source.place - unused)
                if piece:
                    yield piece
            fault = None if decoder.eof else Broken(CUT_OFF)
        except (zlib.error, zstandard.ZstdError):
            fault = Broken(BAD_COMPRESSION)
        if source.place == start:
            return
        yield fault
        if fault:
            furthest = max(furthest, source.place)
            again += source.place - start
            is_spent = again > _AGAIN + _TIMES_AGAIN * furthest
            source.go_to(furthest if is_spent else start + 1)
            if not source.find(magic):
                return


def _inflated(member: memoryview) -> bytearray | None:
    """Content of a whole member; None where it is none, or must be read bit by bit."""
    size = _SIZE.unpack_from(member, len(member) - 4)[0] if len(member) >= _LEAST else 0
    if not 0 < size <= _PIECE:
        return None
    try:
        whole = deflate.gzip_decompress(member, size)
    except deflate.DeflateError:
        return None
    return whole if len(whole) == size else None


class _Gunzip:
    """Decodes one member, bit by bit: (what came out, how many bytes were not needed)."""

    chunk = _CHUNK

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    def __call__(self, part: memoryview) -> tuple[bytes, int]:
        piece = self._decoder.decompress(part, _PIECE)
        return piece, len(self._decoder.unconsumed_tail) or len(self._decoder.unused_data)


class _Unzstd:
    """The same for a frame of zstd, whose decoder knows no limit of its output: 2 KiB are 64 MiB
    at most."""

    chunk = 1 << 11

    def __init__(self, frames: zstandard.ZstdDecompressor) -> None:
        self._decoder = frames.decompressobj()

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    def __call__(self, part: memoryview) -> tuple[bytes, int]:
        return self._decoder.decompress(part), len(self._decoder.unused_data)
