"""The part of a JPEG before its first scan: its segments, as libjpeg meets them, and its header.

Source: ITU-T T.81, annex B.
"""

from __future__ import annotations

import re
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
_MAX_PASSED = 2_000_000_000  # pixels of all scans: 3 s; of the largest image 22 scans
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
            usual, begin, at = False, at, _after_odd(body, at)
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


def _after_odd(body: bytes, at: int) -> int:
    """Where it goes on behind what is not a segment: at an 0xFF that is followed by a marker."""
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
