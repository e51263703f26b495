"""The archives within a file: itself, the archives in a WACZ, which is a zip of them, and an
archive with a second gzip around it.

Unpacked archives go to temporary files, one at a time and of bounded size, since reading goes back
behind what is broken.
"""

from __future__ import annotations

import re
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from alignset.transforms.pages.archive_members import (
    BAD_COMPRESSION,
    CUT_OFF,
    GZIP,
    READ,
    Broken,
    read_compressed,
)

_ZIP = b"PK\x03\x04"
_NAME = re.compile(r"\.warc(\.gz|\.zst)?$")
_MOST_GROWTH, LEAST_LIMIT = 16, 1 << 26  # times its size, or bytes, to which one may be unpacked
_LONGEST_DIRECTORY = 1 << 22  # bytes of a zip's list of its files, which takes ten times the memory


def archives_of(source: BinaryIO, *, wacz: bool = True) -> Iterator[BinaryIO | Broken]:
    """The archives, and what is broken in what holds them."""
    head = source.read(4)
    source.seek(0)
    if head == _ZIP and wacz:
        yield from _of_wacz(source)
        return
    if head[:3] == GZIP:
        begin = b""
        for piece in _gunzipped(source):
            if not isinstance(piece, Broken):
                begin += piece[:3]
            if len(begin) >= 3:
                break
        size = source.seek(0, 2)
        source.seek(0)
        if begin[:3] == GZIP:
            yield from _unpacked(_gunzipped(source), size)
            return
    yield source


def _gunzipped(source: BinaryIO) -> Iterator[bytes | bytearray | Broken]:
    return (event for event in read_compressed(source, GZIP) if event is not None)


def _unpacked(
    pieces: Iterable[bytes | bytearray | Broken], size: int
) -> Iterator[BinaryIO | Broken]:
    """The unpacked content of so many bytes, as far as it can be read, and the last fault."""
    fault, room = None, max(LEAST_LIMIT, _MOST_GROWTH * size)
    with tempfile.TemporaryFile() as sink:
        try:
            for piece in pieces:
                if isinstance(piece, Broken):
                    fault = piece
                    continue
                count = sink.write(piece[:room])
                room -= count
                if count < len(piece):
                    fault = Broken(CUT_OFF)
                    break
        except OSError:  # of a disk: the zip's own faults are others
            raise
        except Exception:
            fault = Broken(BAD_COMPRESSION)
        sink.seek(0)
        yield sink
    if fault:
        yield fault


def _of_wacz(source: BinaryIO) -> Iterator[BinaryIO | Broken]:
    bytes_left = source.seek(0, 2)
    try:
        wacz = zipfile.ZipFile(_ZipFile(source))
        files = sorted(
            (file for file in wacz.infolist() if _NAME.search(file.filename)),
            key=lambda file: file.filename,
        )
    except OSError:
        raise
    except Exception:  # zipfile raises of seven kinds
        yield Broken(BAD_COMPRESSION)
        return
    for file in files:
        bytes_left -= file.compress_size
        # Of files that lie over each other a zip of 10 MB may have 280 TB.
        if bytes_left < 0 or file.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            yield Broken(BAD_COMPRESSION)
            continue
        for archive in _unpacked(_pieces(wacz, file), file.compress_size):
            if isinstance(archive, Broken):
                yield archive
            else:
                yield from archives_of(archive, wacz=False)


def _pieces(wacz: zipfile.ZipFile, file: zipfile.ZipInfo) -> Iterator[bytes]:
    with wacz.open(file) as source:
        while piece := source.read(READ):
            yield piece


class _ZipFile:
    """A file for `zipfile`, which goes and reads wherever the file's own bytes say."""

    def __init__(self, source: BinaryIO) -> None:
        self.source = source
        self.tell, self.seekable = source.tell, source.seekable

    def seek(self, place: int, whence: int = 0) -> int:
        if place < 0 and not whence:
            raise zipfile.BadZipFile("something lies before the file")
        return self.source.seek(place, whence)

    def read(self, size: int = -1) -> bytes:
        if size > _LONGEST_DIRECTORY:
            raise zipfile.BadZipFile("its directory is too long")
        return self.source.read(size)
