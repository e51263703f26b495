"""The grey plane of usual JPEGs at an eighth of their size, in a third of libjpeg's time.

At that size only the first coefficient of each block shows. libjpeg decodes the other 63 symbol by
symbol all the same; here they are stepped over, several at once, in two files by turns.

Only what decodes without the least fault is given back, to the last bit before the end marker: of
all else libjpeg must tell. Samples equal libjpeg's.

Source: ITU-T T.81, annexes B (markers) and F (sequential Huffman coding).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from alignset.transforms.columns.kernels import allocating_kernel
from alignset.transforms.images.jpeg_lanes import NO_SCAN, Scan, decode
from alignset.transforms.images.jpeg_tables import LOOK_UP_BITS, Layout, layout_of
from alignset.transforms.images.usual_headers import read_header

Plane = npt.NDArray[np.uint8]

MOST_SAMPLES = 1 << 21  # of 134 million pixels; they take up to 28 MB while they are made


class _Picture(NamedTuple):
    """A file of one scan, to be decoded.

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
    numbered = [(n, _picture_of(body, smallest_px)) for n, body in enumerate(bodies)]
    pictures = [(n, picture) for n, picture in numbered if picture]
    pictures.sort(key=lambda item: len(item[1].data))  # two that end at about the same time
    for first in range(0, len(pictures), 2):
        pair = pictures[first : first + 2]
        scans = [_coded(picture) for _, picture in pair]
        whole = decode(scans[0], scans[1] if len(scans) == 2 else NO_SCAN)
        for (n, picture), scan, good in zip(pair, scans, whole, strict=False):
            planes[n] = _plane_of(picture, scan.windows) if good else None
    return planes


def _picture_of(body: bytes, smallest_px: int) -> _Picture | None:
    header = read_header(body)
    if not header:
        return None
    width, height = header.width, header.height
    shape = -(-height // 8), -(-width // 8)
    # A block takes two bits at least.
    most = min(4 * len(body), MOST_SAMPLES)
    if min(shape) < max(1, smallest_px) or shape[0] * shape[1] > most:
        return None
    layout = layout_of(header.samplings)
    across, down = layout.sampling
    units = -(-width // (8 * across)), -(-height // (8 * down))
    data = np.frombuffer(body, np.uint8)
    return _Picture(data, header.begin, layout, header.quantum, units, shape)


def _coded(picture: _Picture) -> Scan:
    layout = picture.layout
    blocks = layout.unit * picture.units[0] * picture.units[1]
    return Scan(
        picture.data,
        picture.begin,
        blocks,
        layout.moves,
        layout.steps,
        layout.codes,
        layout.symbols,
        windows=np.empty(blocks + 1, np.uint32),
    )


def _plane_of(picture: _Picture, windows: npt.NDArray[np.uint32]) -> Plane | None:
    layout = picture.layout
    (across, down), (units_across, units_down) = layout.sampling, picture.units
    plane = np.empty((units_down * down, units_across * across), np.uint8)
    if not _fill(windows, layout.unit, layout.sampling, layout.firsts, picture.quantum, plane):
        return None
    return plane[: picture.shape[0], : picture.shape[1]]


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
