"""Compressed archives to the contents of their members; behind a broken member comes the next."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

import zstandard

from alignset.transforms.workers.unexpected import tell_once

BAD_COMPRESSION, CUT_OFF, UNREADABLE = "bad_compression", "cut_off", "unreadable"
GZIP, ZSTD, _ZSTD_DICTIONARY = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\x5d\x2a\x4d\x18"
MAX_RECORD = 1 << 26  # bytes of a record that is held in memory
# Bytes that a decoder gets at once: 16 KiB of deflate make 17 MiB at most, 2 KiB of zstd 64 MiB.
# The first are few, since it copies what is behind the member.
FIRST_CHUNK, _MOST_GZIP, _MOST_ZSTD = 1 << 7, 1 << 14, 1 << 11
# Behind a fault, reading goes back to the next member that may begin there, at most so far; and
# what is decoded once more may be so many bytes, and so many times those that were read.
_AGAIN, _TIMES_AGAIN = 1 << 22, 4


class Broken(NamedTuple):
    """A record or page that cannot be used, and the page's URL if it is known."""

    detail: str
    page: str = ""


T = TypeVar("T")
Piece = bytes | bytearray | Broken | None  # of a member; why there will be no more of it; its end


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
            if isinstance(piece, bytearray) and not self.data:
                self.data = piece  # not copied
            elif isinstance(piece, bytes | bytearray):
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
    most = _MOST_ZSTD if frames else _MOST_GZIP
    again = 0  # bytes that were decoded in vain
    while source.has(1):
        decoder = frames.decompressobj() if frames else zlib.decompressobj(31)
        at, size, fault = 0, FIRST_CHUNK, None
        try:
            while not decoder.eof and source.has(at + 1):
                part = source.data[at : at + size]
                at, size = at + len(part), min(2 * size, most)
                if piece := decoder.decompress(part):
                    yield piece
                if at > 2 * _AGAIN:
                    source.drop(_AGAIN)
                    at -= _AGAIN
            if not decoder.eof:
                fault = Broken(CUT_OFF)
        except (zlib.error, zstandard.ZstdError):
            fault = Broken(BAD_COMPRESSION)
        yield fault
        if not fault:
            source.drop(at - len(decoder.unused_data))
            continue
        again += at
        if again <= _AGAIN + _TIMES_AGAIN * (source.place + at):
            at = 1
        while (next_at := source.data.find(magic, at)) < 0:
            source.drop(max(at, len(source.data) - len(magic) + 1))
            at = 0
            if not source.has(len(magic)):
                return
        source.drop(next_at)


def _zstd_decoder(source: Stream) -> zstandard.ZstdDecompressor:
    """With the dictionary that may stand in a frame of its own before the others, and is dropped;
    without it, if it is damaged."""
    if not source.has(8) or source.data[:4] != _ZSTD_DICTIONARY:
        return zstandard.ZstdDecompressor()
    size = 8 + min(int.from_bytes(source.data[4:8], "little"), MAX_RECORD)
    source.has(size)
    data = bytes(source.data[8:size])
    source.drop(size)
    try:
        if data[:4] == ZSTD:  # the size that it declares may be anything
            data = zstandard.ZstdDecompressor().stream_reader(data).read(MAX_RECORD)
        return zstandard.ZstdDecompressor(zstandard.ZstdCompressionDict(data))
    except zstandard.ZstdError:
        return zstandard.ZstdDecompressor()
