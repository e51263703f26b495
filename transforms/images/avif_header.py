"""The size of an AVIF, and whether its boxes are all there: what stands before its pixels.

Costs that the size does not say, such as a larger frame behind it, or tables that libavif parses in
quadratic time, end with the limits of the child process that decodes it (`decode.py`).

1. Walk the outermost boxes: one that the file's end cuts makes it "truncated".
2. The size of a still image is the `ispe` of its primary item, and of an animation its track's.

Sources: ISO/IEC 14496-12 (boxes, tracks), ISO/IEC 23008-12 (items).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

_MAX_BOXES = 10_000  # of a file; a film that is sent in fragments has some thousands
_MAX_ENTRIES = 2_000  # of a table before the primary item's; a grid of 64 tiles has some hundreds


class AvifHeader(NamedTuple):
    """Size in px, as stored in the file, and why it is not decoded: a detail or None."""

    width: int
    height: int
    error: str | None


class _AvifError(ValueError):
    """The file is not decoded; the message is a detail of "undecodable"."""


class _Box(NamedTuple):
    kind: bytes
    begin: int
    end: int


def avif_header(body: bytes) -> AvifHeader:
    """Reads the boxes of an AVIF, none of its pixels. Time is bounded, whatever the file's size.

    Returns:
      0 x 0 with the error where no size can be read.
    """
    size, detail, found = (0, 0), None, dict[bytes, _Box]()
    try:
        try:
            for box in _boxes(body, 0, len(body)):
                found.setdefault(box.kind, box)
        except _AvifError as error:  # behind what says the size, most often
            detail = str(error)
        # As libavif chooses: by the major brand.
        if b"moov" in found and (body[8:12] == b"avis" or b"meta" not in found):
            size = _track_size(body, found[b"moov"])
        else:
            size = _item_size(body, found[b"meta"])
    except (_AvifError, struct.error, IndexError, KeyError) as error:
        detail = detail or (str(error) if isinstance(error, _AvifError) else "broken")
    return AvifHeader(*size, detail)


def _boxes(body: bytes, begin: int, end: int) -> Iterator[_Box]:
    """The boxes of a part of the file; the last one may be cut by the file's end, not by `end`."""
    for _ in range(_MAX_BOXES):
        if begin + 8 > end:
            return
        size, kind = struct.unpack_from(">I4s", body, begin)
        head = 8
        if size == 1:
            size, head = struct.unpack_from(">Q", body, begin + 8)[0], 16
        elif size == 0:
            size = end - begin
        if size < head:
            raise _AvifError("broken")
        if begin + size > end:
            raise _AvifError("truncated" if begin + size > len(body) else "broken")
        yield _Box(kind, begin + head, begin + size)
        begin += size
    raise _AvifError("too_costly")


def _inner(body: bytes, box: _Box, skip: int = 0) -> dict[bytes, _Box]:
    """The boxes in a box by kind, the first of each; `skip` bytes stand before them."""
    found: dict[bytes, _Box] = {}
    for inner in _boxes(body, box.begin + skip, box.end):
        found.setdefault(inner.kind, inner)
    return found


def _track_size(body: bytes, movie: _Box) -> tuple[int, int]:
    """(width, height) in px of the first track that has a size; sound has none."""
    for box in _boxes(body, movie.begin, movie.end):
        if box.kind == b"trak":
            width, height = struct.unpack_from(">II", body, _inner(body, box)[b"tkhd"].end - 8)
            if width and height:
                return width >> 16, height >> 16
    raise _AvifError("broken")


def _item_size(body: bytes, meta: _Box) -> tuple[int, int]:
    """(width, height) in px that the primary item says it has."""
    found = _inner(body, meta, 4)
    primary = found[b"pitm"].begin
    (item,) = struct.unpack_from(">I" if body[primary] else ">H", body, primary + 4)
    properties, *tables = _boxes(body, found[b"iprp"].begin, found[b"iprp"].end)
    kinds = [*_boxes(body, properties.begin, properties.end)]
    for table in tables:
        for index in _associations(body, table, item):
            if index and kinds[index - 1].kind == b"ispe":
                width, height = struct.unpack_from(">II", body, kinds[index - 1].begin + 4)
                return width, height
    raise _AvifError("broken")


def _associations(body: bytes, table: _Box, item: int) -> list[int]:
    """The numbers of an item's properties, from 1, in one `ipma` box."""
    version, wide = body[table.begin], body[table.begin + 3] & 1
    (count,) = struct.unpack_from(">I", body, table.begin + 4)
    if count > _MAX_ENTRIES:
        raise _AvifError("too_costly")
    at, numbers = table.begin + 8, (">I", 4) if version else (">H", 2)
    for _ in range(count):
        (number,) = struct.unpack_from(numbers[0], body, at)
        at += numbers[1]
        stop = at + 1 + body[at] * (2 if wide else 1)
        if number == item:
            indices = body[at + 1 : stop]
            if wide:
                return [word & 0x7FFF for (word,) in struct.iter_unpack(">H", indices)]
            return [index & 0x7F for index in indices]
        at = stop
    return []
