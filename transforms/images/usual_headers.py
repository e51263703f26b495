"""What the header of a usual JPEG says to a decoder.

A header is taken only where it is known whole: no segment but those below, each as long as it says
and valid to the last byte, and the Huffman tables of the standard, which encoders use that make
none of their own. Another decoder then sees the same picture in it.

Source: ITU-T T.81, annexes B (markers) and K (the tables).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from alignset.transforms.images.jpeg_segments import jpeg_segments
from alignset.transforms.images.jpeg_tables import STANDARD

_MOST_SEGMENTS, _MOST_BYTES = 64, 1 << 16  # of a header
_MOST_BLOCKS = 10  # of a unit
_SKIPPED = frozenset({*range(0xE0, 0xF0), 0xFE})  # APPn, COM
_DHT, _DQT, _DRI, _SOF0, _APP0, _APP2, _APP14 = 0xC4, 0xDB, 0xDD, 0xC0, 0xE0, 0xE2, 0xEE
_PROFILE = b"ICC_PROFILE\0"


class Header(NamedTuple):
    """What a usual header says.

    Attributes:
      width, height: px.
      samplings: blocks across and down in a unit, of each component, luma first.
      quantum: what the first coefficients of luma are multiplied by.
      begin: where in the file the coded data begin.
    """

    width: int
    height: int
    samplings: tuple[tuple[int, int], ...]
    quantum: int
    begin: int


def read_header(body: bytes) -> Header | None:
    """The header of a JPEG that is known whole; None of any other."""
    segments = jpeg_segments(body)
    _, begin, end = segments.each[-1] if segments.usual else (0, 0, _MOST_BYTES + 1)
    if end > _MOST_BYTES or len(segments.each) > _MOST_SEGMENTS:
        return None
    frame: bytes | None = None
    quanta: dict[int, int] = {}
    huffman: set[int] = set()
    for marker, start, stop in segments.each[:-1]:
        data = body[start:stop]
        if marker == _DHT:
            taken = _add_huffman(data, huffman)
        elif marker == _DQT:
            taken = _add_quanta(data, quanta)
        elif marker == _SOF0:
            taken, frame = frame is None and len(data) > 5, data
        elif marker == _DRI:  # no restart markers in the scan
            taken = data == b"\0\0"
        else:
            taken = marker in _SKIPPED and _is_silent(marker, data)
        if not taken:
            return None
    if frame is None or frame[0] != 8 or body.count(_PROFILE, 2, begin) > 1:
        return None
    samplings = _samplings(frame[5:21], body[begin : min(end, begin + 12)])
    used = STANDARD.keys() if len(samplings) > 1 else {0x00, 0x10}
    if not samplings or not huffman >= used or not quanta.keys() >= {*frame[8::3]}:
        return None
    height, width = frame[1] << 8 | frame[2], frame[3] << 8 | frame[4]
    return Header(width, height, samplings, quanta[frame[8]], end)


def _is_silent(marker: int, data: bytes) -> bool:
    """Whether libjpeg neither warns of a segment that it does not need nor goes by it."""
    if marker == _APP0 and data[:5] == b"JFIF\0":
        return data[5] == 1  # its major version
    if marker == _APP2 and data[:12] == _PROFILE:
        return data[12:14] == b"\1\1"  # the first of one
    return marker != _APP14 or data[:5] != b"Adobe" or data[11] == 1  # else no YCbCr


def _add_quanta(data: bytes, quanta: dict[int, int]) -> bool:
    """Adds the first number of each table of a DQT; False where it is broken."""
    at = 0
    while at < len(data):
        wide, number = data[at] >> 4, data[at] & 15
        if wide > 1 or number > 3:
            return False
        quanta[number] = int.from_bytes(data[at + 1 : at + 2 + wide], "big")
        at += 1 + 64 * (1 + wide)
    return at == len(data)


def _add_huffman(data: bytes, huffman: set[int]) -> bool:
    """Adds the numbers of the tables of a DHT, which are the standard's; False where one is not."""
    at = 0
    while at < len(data):
        table = STANDARD.get(data[at], b"")
        if not table or not data.startswith(table, at + 1):
            return False
        huffman.add(data[at])
        at += 1 + len(table)
    return True


@lru_cache(maxsize=256)
def _samplings(components: bytes, scan: bytes) -> tuple[tuple[int, int], ...]:
    """Blocks across and down in a unit of each component; empty where the frame's components, their
    count first, and the scan are not as usual."""
    count = components[0]
    if count not in (1, 3) or len(components) != 1 + 3 * count:
        return ()
    names = components[1::3]
    # "R" of RGB; a scan of all, in order, of all coefficients.
    chosen = b"".join(bytes((name, 0x11 if n else 0)) for n, name in enumerate(names))
    if names[0] == 0x52 or len({*names}) < count or scan != bytes((count,)) + chosen + b"\0\x3f\0":
        return ()
    samplings = tuple((sampling >> 4, sampling & 15) for sampling in components[2::3])
    across, down = samplings[0]
    if any(not 1 <= a <= across <= 2 or not 1 <= b <= down <= 2 for a, b in samplings):
        return ()  # luma is the finest
    if sum(a * b for a, b in samplings) > _MOST_BLOCKS:
        return ()
    return samplings if count == 3 else ((1, 1),)
