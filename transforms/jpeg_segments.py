"""The segments before a JPEG's first scan, as libjpeg meets them.

Source: ITU-T T.81, annex B.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

START_OF_SCAN = 0xDA
_MOST = 1_000  # a large ICC profile takes a hundred
_APPS = range(0xE0, 0xF0)
# SOF0 to SOF2, DHT, SOS, DQT, DRI, APPn, COM.
_USUAL = frozenset({0xC0, 0xC1, 0xC2, 0xC4, START_OF_SCAN, 0xDB, 0xDD, *_APPS, 0xFE})
# What Pillow reads of these without a look at their length.
_LEAST = {b"JFIF": 7, b"Adob": 12}
_FILL = re.compile(rb"\xff*")
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a segment


class Segment(NamedTuple):
    """A marker with its data, `body[begin:end]`; `end` may lie behind the file's.

    Attributes:
      at: where its 0xFF is.
    """

    marker: int
    at: int
    begin: int
    end: int


def jpeg_segments(body: bytes) -> Iterator[Segment]:
    """The segments of a file up to the first scan's header, or to where there are no more.

    Bytes in between, fill bytes and markers without a segment are passed over, as decoders do; no
    segment is at the place where the last one ends then. After a thousand there are no more.
    """
    at = 2
    for _ in range(_MOST):
        at = body.find(b"\xff", at)
        if at < 0:
            return
        at = _FILL.match(body, at).end() - 1  # type: ignore[union-attr]
        if at + 4 > len(body):
            return
        marker = body[at + 1]
        if marker == 0 or marker in _ALONE:
            at += 2
            continue
        end = at + 2 + int.from_bytes(body[at + 2 : at + 4], "big")
        yield Segment(marker, at, at + 4, end)
        if marker == START_OF_SCAN:
            return
        at = end


def is_usual(body: bytes, segment: Segment) -> bool:
    """Whether it is of a kind that all decoders know, and as long as they take it to be."""
    marker, _, begin, end = segment
    if marker not in _USUAL or not begin <= end <= len(body):
        return False
    return marker not in _APPS or end - begin >= _LEAST.get(body[begin : begin + 4], 0)
