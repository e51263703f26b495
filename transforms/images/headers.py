"""What stands before the pixels: the part of a JPEG before its first scan, its segments as libjpeg
meets them; and the size of an AVIF, and whether its boxes are all there.

Costs of an AVIF that the size does not say, such as a larger frame behind it, or tables that
libavif parses in quadratic time, end with the limits of the child process that decodes it
(`decode.py`):

1. Walk the outermost boxes: one that the file's end cuts makes it "truncated".
2. The size of a still image is the `ispe` of its primary item, and of an animation its track's.

Sources: ITU-T T.81, annex B; ISO/IEC 14496-12 (boxes, tracks), ISO/IEC 23008-12 (items).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_MOST_SEGMENTS = 1_000  # a large ICC profile takes a hundred
_MOST_JUNK = 1 << 20  # bytes between segments, which take decoders 0.4 s
_APPS = range(0xE0, 0xF0)
# SOF0 to SOF2, DHT, SOS, DQT, DRI, APPn, COM.
_USUAL = frozenset({0xC0, 0xC1, 0xC2, 0xC4, _START_OF_SCAN, 0xDB, 0xDD, *_APPS, 0xFE})
# What Pillow reads of these without a look at their length.
_LEAST = {b"JFIF": 7, b"Adob": 12}
_FILL = re.compile(rb"\xff*")
_ALONE = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})  # no marker, or one without a segment
# Encoders write about ten scans. Each is a pass over the whole image and may take 30 bytes.
MAX_SCANS = 100
_MAX_PASSED = 2_000_000_000  # pixels of all scans: 3 s, or 22 scans of the largest image
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
# Baseline, extended, progressive. libjpeg ignores the scale of a decode of a lossless frame, and
# writes the whole image into memory that simplejpeg, or Pillow, has for a part of it.
_DCT_FRAMES, _PROGRESSIVE = frozenset({0xC0, 0xC1, 0xC2}), 0xC2


class Segments(NamedTuple):
    """The segments of a header.

    Attributes:
      each: marker, and where its data begin and end, which may be behind the file's end.
      scan: where the first scan's 0xFF is; -1 where there is none before the image's end.
      usual: whether nothing else is in the header, and all is of kinds that every decoder reads
        alike, and as long as they take it to be.
      too_many: whether there are more than are looked at, or more bytes between them, and so no
        scan was sought further.
    """

    each: list[tuple[int, int, int]]
    scan: int
    usual: bool
    too_many: bool = False


def jpeg_segments(body: bytes) -> Segments:
    """The segments of a file, the first scan's own the last.

    Bytes in between, fill bytes and markers without a segment are passed over, as decoders do; a
    thousand of all these at most, and 1 MiB of such bytes.
    """
    each: list[tuple[int, int, int]] = []
    at, stop, usual, junk = 2, len(body) - 4, True, 0
    for _ in range(_MOST_SEGMENTS):
        if at > stop:
            return Segments(each, -1, False)
        marker = body[at + 1]
        if body[at] != 0xFF or marker == 0xFF or marker in _ALONE:
            usual, begin, at = False, at, _next_marker(body, at)
            junk += at - begin
            if junk > _MOST_JUNK:
                break
            continue
        if marker == _END_OF_IMAGE:
            return Segments(each, -1, False)
        begin, end = at + 4, at + 2 + (body[at + 2] << 8 | body[at + 3])
        each.append((marker, begin, end))
        usual = usual and marker in _USUAL and begin <= end <= len(body)
        if marker == _START_OF_SCAN:
            return Segments(each, at, usual)
        if marker in _APPS and end - begin < _LEAST.get(body[begin : begin + 4], 0):
            usual = False
        at = end
    return Segments(each, -1, False, too_many=True)


def _next_marker(body: bytes, at: int) -> int:
    """Where to read on behind what is not a segment: at an 0xFF that is followed by a marker."""
    if body[at] != 0xFF:
        next_marker = body.find(b"\xff", at)
        return next_marker if next_marker >= 0 else len(body)
    return _FILL.match(body, at).end() - 1 if body[at + 1] == 0xFF else at + 2  # type: ignore[union-attr]


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """The part before the first scan.

    Attributes:
      width, height: px.
      frame: the marker of the one frame, as 0xC0 for SOF0.
      components: 1 grey, 3 colour, 4 CMYK.
      scan: where in the file the first begins.
      annotated: whether EXIF or XMP, which may turn the image, are in it.
      usual: whether segments alone are in it, one behind the other, of kinds that all decoders read
        alike.
    """

    width: int
    height: int
    frame: int
    components: int
    scan: int
    annotated: bool
    usual: bool

    @property
    def error(self) -> str | None:
        """Name why the frame is not decoded: it is "lossless", or an "unsupported_frame".

        The latter is hierarchical or arithmetic-coded, which no browser shows.
        """
        if self.frame in _DCT_FRAMES:
            return None
        return "lossless" if self.frame & 3 == 3 else "unsupported_frame"

    def scaled_size(self, eighths: int) -> tuple[int, int]:
        """Return the (height, width) in px at so many eighths of a side."""
        return -(-self.height * eighths // 8), -(-self.width * eighths // 8)


def jpeg_header(body: bytes, segments: Segments) -> JpegHeader | None:
    """Facts in the header; None where no scan is found, or not one frame before it."""
    frame, begin, frames, annotated = 0, 0, 0, False
    for marker, data, _ in segments.each:
        if marker in _FRAMES:
            frame, begin, frames = marker, data, frames + 1
        annotated |= marker == 0xE1
    if frames != 1 or segments.scan < 0 or begin + 6 > len(body):
        return None
    height, width = (int.from_bytes(body[begin + at : begin + at + 2], "big") for at in (1, 3))
    components = body[begin + 5]
    return JpegHeader(width, height, frame, components, segments.scan, annotated, segments.usual)


def has_too_many_scans(body: bytes, header: JpegHeader) -> bool:
    """Whether decoding takes many seconds for no image's sake."""
    if header.frame != _PROGRESSIVE:
        return False
    scans = body.count(b"\xff\xda", header.scan)
    return scans > MAX_SCANS or scans * header.width * header.height > _MAX_PASSED


_MAX_BOXES = 10_000  # of a file; a film that is sent in fragments has some thousands
_MAX_ENTRIES = 2_000  # of a table before the primary item's; a grid of 64 tiles has some hundreds
_MAX_TABLES = 32  # of associations, and as many tracks; libavif takes no more tables


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
    tracks = [box for box in _boxes(body, movie.begin, movie.end) if box.kind == b"trak"]
    for box in tracks[:_MAX_TABLES]:
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
    for table in tables[:_MAX_TABLES]:
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
