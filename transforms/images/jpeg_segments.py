"""The segments before a JPEG's first scan, as libjpeg meets them.

Source: ITU-T T.81, annex B.
"""

from __future__ import annotations

import re
from typing import NamedTuple

START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_MOST = 1_000  # a large ICC profile takes a hundred
_APPS = range(0xE0, 0xF0)
# SOF0 to SOF2, DHT, SOS, DQT, DRI, APPn, COM.
_USUAL = frozenset({0xC0, 0xC1, 0xC2, 0xC4, START_OF_SCAN, 0xDB, 0xDD, *_APPS, 0xFE})
# What Pillow reads of these without a look at their length.
_LEAST = {b"JFIF": 7, b"Adob": 12}
_FILL = re.compile(rb"\xff*")
_ALONE = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})  # no marker, or one without a segment


class Segments(NamedTuple):
    """The segments of a header.

    Attributes:
      each: marker, and where its data begin and end, which may be behind the file's end.
      scan: where the first scan's 0xFF is; -1 where there is none before the image's end.
      usual: whether nothing else is in the header, and all is of kinds that every decoder reads
        alike, and as long as they take it to be.
      too_many: whether there are more than are looked at, and so no scan was sought further.
    """

    each: list[tuple[int, int, int]]
    scan: int
    usual: bool
    too_many: bool = False


def jpeg_segments(body: bytes) -> Segments:
    """The segments of a file, the first scan's own the last.

    Bytes in between, fill bytes and markers without a segment are passed over, as decoders do; a
    thousand of all these at most.
    """
    each: list[tuple[int, int, int]] = []
    at, stop, usual = 2, len(body) - 4, True
    for _ in range(_MOST):
        if at > stop:
            return Segments(each, -1, False)
        marker = body[at + 1]
        if body[at] != 0xFF or marker == 0xFF or marker in _ALONE:
            usual, at = False, _after_odd(body, at)
            continue
        if marker == _END_OF_IMAGE:
            return Segments(each, -1, False)
        begin, end = at + 4, at + 2 + (body[at + 2] << 8 | body[at + 3])
        each.append((marker, begin, end))
        usual = usual and marker in _USUAL and begin <= end <= len(body)
        if marker == START_OF_SCAN:
            return Segments(each, at, usual)
        if marker in _APPS and end - begin < _LEAST.get(body[begin : begin + 4], 0):
            usual = False
        at = end
    return Segments(each, -1, False, too_many=True)


def _after_odd(body: bytes, at: int) -> int:
    """Where it goes on behind what is no segment: at an 0xFF that is followed by a marker."""
    if body[at] != 0xFF:
        next_marker = body.find(b"\xff", at)
        return next_marker if next_marker >= 0 else len(body)
    return _FILL.match(body, at).end() - 1 if body[at + 1] == 0xFF else at + 2  # type: ignore[union-attr]
