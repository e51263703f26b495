"""The grey plane of usual JPEGs at an eighth of their size, in a third of libjpeg's time.

At that size only the first coefficient of each block shows. libjpeg decodes the other 63 symbol by
symbol all the same; here they are stepped over, several at once, in two files by turns.

Only what decodes without the least fault is given back, to the last bit before the end marker: of
all else libjpeg must tell. Samples equal libjpeg's.

Source: ITU-T T.81, annexes B (markers) and F (sequential Huffman coding).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from transforms.columns.kernels import allocating_kernel
from transforms.images.jpeg_lanes import NO_SCAN, decode
from transforms.images.jpeg_tables import LOOK_UP_BITS, Layout, layout_of, read_header

Plane = npt.NDArray[np.uint8]

_MOST_SAMPLES = 1 << 21  # of 134 million pixels; they take up to 28 MB while they are made


class _Scan(NamedTuple):
    """A file's only scan, to be decoded.

    Attributes:
      begin: where in the file its data begin.
      quantum: what the first coefficients of luma are multiplied by.
      units: across and down.
      shape: of the plane.
    """

    data: npt.NDArray[np.uint8]
    begin: int
    layout: Layout
    quantum: int
    units: tuple[int, int]
    shape: tuple[int, int]


def dc_planes(bodies: Sequence[bytes], smallest_px: int = 1) -> list[Plane | None]:
    """The luma of JPEGs at an eighth of their size: uint8[ceil(height / 8), ceil(width / 8)].

    None where a file is not of the usual kind (baseline, one scan, no restart markers, grey or
    YCbCr, the standard's Huffman tables), has any fault at all, or where the shorter side of its
    plane would have less than `smallest_px`, or it would have over two million samples. What is
    given for a file depends on its bytes alone. Other bytes may be among them.
    """
    planes: list[Plane | None] = [None] * len(bodies)
    scans = [(n, scan) for n, body in enumerate(bodies) if (scan := _scan_of(body, smallest_px))]
    scans.sort(key=lambda numbered: len(numbered[1].data))  # two that end at about the same time
    for first in range(0, len(scans), 2):
        some = scans[first : first + 2]
        given = [_given(scan) for _, scan in some]
        whole = decode(given[0], given[1] if len(given) == 2 else NO_SCAN)
        for (n, scan), arrays, good in zip(some, given, whole, strict=False):
            planes[n] = _plane_of(scan, arrays[-1]) if good else None
    return planes


def _scan_of(body: bytes, smallest_px: int) -> _Scan | None:
    header = read_header(body)
    if not header:
        return None
    width, height = header.width, header.height
    shape = -(-height // 8), -(-width // 8)
    # A block takes two bits at least.
    most = min(4 * len(body), _MOST_SAMPLES)
    if min(shape) < max(1, smallest_px) or shape[0] * shape[1] > most:
        return None
    layout = layout_of(header.samplings)
    across, down = layout.sampling
    units = -(-width // (8 * across)), -(-height // (8 * down))
    data = np.frombuffer(body, np.uint8)
    return _Scan(data, header.begin, layout, header.quantum, units, shape)


def _given(scan: _Scan) -> tuple[Any, ...]:
    """What `decode` takes: data, where they begin, how many blocks there are, `Layout`'s moves,
    steps, codes and symbols; and the bits that each block begins with, to be filled in."""
    blocks = scan.layout.unit * scan.units[0] * scan.units[1]
    tables = scan.layout[2:6]
    return scan.data, scan.begin, blocks, *tables, np.empty(blocks + 1, np.uint32)


def _plane_of(scan: _Scan, windows: npt.NDArray[np.uint32]) -> Plane | None:
    layout = scan.layout
    (across, down), (units_across, units_down) = layout.sampling, scan.units
    plane = np.empty((units_down * down, units_across * across), np.uint8)
    if not _fill(windows, layout.unit, layout.sampling, layout.firsts, scan.quantum, plane):
        return None
    return plane[: scan.shape[0], : scan.shape[1]]


@allocating_kernel
def _fill(windows, unit, sampling, firsts, quantum, plane):  # type: ignore[no-untyped-def]
    """Fills the plane with the luma of units; False where a sample is out of bounds."""
    begin, value, (across, down) = 0, np.int64(0), sampling
    for row in range(0, plane.shape[0], down):
        for column in range(0, plane.shape[1], across):
            for block in range(across * down):
                window = np.int64(windows[begin + block])
                first = np.int64(firsts[window >> (32 - LOOK_UP_BITS)])
                width = first >> 4
                rest = (window << (first & 15)) & 0xFFFFFFFF
                value += (rest >> (32 - width)) - (rest < 1 << 31) * ((1 << width) - 1)
                sample = (value * quantum + 4) >> 3
                if not -512 <= sample < 512:  # there libjpeg's own clamp goes round
                    return False
                upper, left = (block >> 1, block & 1) if across == 2 else (block, 0)
                plane[row + upper, column + left] = min(max(sample + 128, 0), 255)
            begin += unit
    return True
