"""The two small grey thumbnails of an image by which copies of it are found, whole and trimmed; and
the copy descriptor: 64 numbers of a thumbnail, near the numbers of its altered copies.

A copy with bars or a frame around it shares its trimmed thumbnail with the image without them. Both
thumbnails are squashed to a square, so that a copy with another aspect ratio has the same
thumbnails.

benchmarks/overlap/descriptor.md says how the network's file was made. A descriptor's last
bits depend on the machine, and its bytes hardly do. Sums of the bytes' products are whole numbers,
which no order of adding changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from alignset.transforms.decontamination.overlap_settings import DESCRIPTOR_SHA256
from alignset.transforms.images.examine import Image
from alignset.transforms.images.onnx_networks import open_session

Thumbnail = npt.NDArray[np.uint8]

SIDE_PX = 64
CHROMA_PARTS = 4  # of an image, a side
# Grey levels within a border's line, and between its lines: JPEG's ringing stays within 10.
_LINE_RANGE = 10
_OPPOSITE_RANGE = 12  # between the colours of opposite borders
_MOST_OF_ONE_SIDE = 0.45  # a larger border may be half of an image
_LEAST_LEFT = 0.3  # of a side, between two borders
# A frame inside of bars, as a framed image has that is letterboxed: two rounds find both.
_ROUNDS = 2


class CopyThumbnails(NamedTuple):
    """The thumbnails of one image.

    Attributes:
      whole: uint8[64, 64], the image squashed.
      trimmed: uint8[64, 64], the same without borders; `whole` where there are none.
      is_trimmed: whether there are.
      inside: the rows and columns between them, of the image shrunk by whole factors.
      shape: height and width of that.
    """

    whole: Thumbnail
    trimmed: Thumbnail
    is_trimmed: bool
    inside: tuple[slice, slice]
    shape: tuple[int, ...]


def make_thumbnails(grey: Thumbnail) -> CopyThumbnails:
    """The thumbnails of an image. Takes 10 us for 80x60, 31 us for 160x120, and 25 us
    more where it trims.

    Borders are trimmed only where opposite sides both have one, of one colour: a banner above or
    below an image is not a border, and what is left after cutting it would be squashed otherwise
    than the image was.

    Args:
      grey: uint8[height, width] of any size.

    Raises:
      ValueError: the image has no pixels, or is not a grey thumbnail of bytes.
    """
    if grey.ndim != 2 or not grey.size or grey.dtype != np.uint8:
        raise ValueError(
            f"a grey thumbnail must be uint8[height, width]; got {grey.dtype}{grey.shape}"
        )
    small = _shrunk(grey)
    whole = _squashed(small)
    inside = _inside_borders(small)
    inner = small[inside]
    if inner.shape == small.shape:
        return CopyThumbnails(whole, whole, False, inside, small.shape)
    return CopyThumbnails(whole, _squashed(inner), True, inside, small.shape)


def stack_thumbnails(images: Sequence[Image]) -> npt.NDArray[np.uint8]:
    """uint8[n, 2, 64, 64]: the whole and the trimmed thumbnail of each image, which was looked at
    with `keep_grey`."""
    rows = np.empty((len(images), 2, SIDE_PX, SIDE_PX), np.uint8)
    for row, image in zip(rows, images, strict=True):
        assert image.grey is not None
        thumbnails = make_thumbnails(image.grey)
        row[0], row[1] = thumbnails.whole, thumbnails.trimmed
    return rows


def chroma_grid(pixels: npt.NDArray[np.uint8], thumbnails: CopyThumbnails) -> npt.NDArray[np.int8]:
    """int8[4, 4, 2]: the two colour differences of YCrCb in 16 parts of an image, inside its
    borders.

    Args:
      pixels: uint8[height, width, 3], RGB, of any size.
      thumbnails: of the same image.
    """
    height, width = thumbnails.shape
    inner = _resized(pixels, width, height, cv2.INTER_AREA)[thumbnails.inside]
    grid = _resized(inner, CHROMA_PARTS, CHROMA_PARTS, cv2.INTER_AREA)
    chroma = cv2.cvtColor(grid, cv2.COLOR_RGB2YCrCb)[:, :, 1:].astype(np.int16)
    return (chroma - 128).astype(np.int8)


def _shrunk(grey: Thumbnail) -> Thumbnail:
    """The thumbnail with both sides below 128 px, by whole factors: OpenCV's `INTER_AREA` takes 3
    us from 160x120 by a whole factor, and 63 us by another."""
    height, width = grey.shape
    down, across = max(1, height // SIDE_PX), max(1, width // SIDE_PX)
    if down == across == 1:
        return grey
    top, left = height % down // 2, width % across // 2
    kept_height, kept_width = height // down, width // across
    cut = grey[top : top + kept_height * down, left : left + kept_width * across]
    return _resized(cut, kept_width, kept_height, cv2.INTER_AREA)


def _squashed(thumbnail: Thumbnail) -> Thumbnail:
    """The thumbnail as a square, by way of one of 128 px: so samples count about alike,
    as where a JPEG is decoded small. Straight from 100 px to 64, thin lines come and go."""
    if thumbnail.shape == (SIDE_PX, SIDE_PX):
        return thumbnail.copy()
    twice = _resized(thumbnail, 2 * SIDE_PX, 2 * SIDE_PX, cv2.INTER_LINEAR)
    return _resized(twice, SIDE_PX, SIDE_PX, cv2.INTER_AREA)


def _resized(thumbnail: Thumbnail, width: int, height: int, how: int) -> Thumbnail:
    # Rows may be apart in memory, but not samples.
    if thumbnail.strides[1] != 1:
        thumbnail = np.ascontiguousarray(thumbnail)
    return np.asarray(cv2.resize(thumbnail, (width, height), interpolation=how), np.uint8)


def _inside_borders(thumbnail: Thumbnail) -> tuple[slice, slice]:
    """The rows and the columns of the thumbnail that are inside its borders."""
    inside = [slice(0, thumbnail.shape[0]), slice(0, thumbnail.shape[1])]
    for _ in range(_ROUNDS):
        before = list(inside)
        for axis in (1, 0):
            lines = _inside_sides(thumbnail[inside[0], inside[1]], axis)
            first = inside[axis].start
            inside[axis] = slice(first + lines.start, first + lines.stop)
        if inside == before:
            break
    return inside[0], inside[1]


def _inside_sides(thumbnail: Thumbnail, axis: int) -> slice:
    """The lines between the borders above and below (axis 0), or left and right (axis 1)."""
    lines = thumbnail.shape[axis]
    first, last = (
        (thumbnail[0], thumbnail[-1]) if axis == 0 else (thumbnail[:, 0], thumbnail[:, -1])
    )
    if not _is_flat(first) or not _is_flat(last):  # of most photographs nothing else is looked at
        return slice(0, lines)
    lowest = thumbnail.min(axis=1 - axis).astype(np.int32)
    highest = thumbnail.max(axis=1 - axis).astype(np.int32)
    before = _flat_lines(lowest, highest)
    after = _flat_lines(lowest[::-1], highest[::-1])
    of_one_colour = abs(int(highest[0]) - int(highest[-1])) <= _OPPOSITE_RANGE
    # One line more on each side: it is of the border and the image mixed.
    left = lines - before - after - 2
    if not before or not after or not of_one_colour or left <= lines * _LEAST_LEFT:
        return slice(0, lines)
    return slice(before + 1, lines - after - 1)


def _is_flat(line: Thumbnail) -> bool:
    return int(line.max()) - int(line.min()) <= _LINE_RANGE


def _flat_lines(lowest: npt.NDArray[np.int32], highest: npt.NDArray[np.int32]) -> int:
    """How many lines from the first on are of its colour alone; 0 where they are too many."""
    flat = (highest - lowest <= _LINE_RANGE) & (np.abs(highest - highest[0]) <= _LINE_RANGE)
    count = int(flat.argmin())  # of the first that is not; 0 where all are
    return count if count < len(lowest) * _MOST_OF_ONE_SIDE else 0


Vectors = npt.NDArray[np.int8]

WIDTH = 64
MODEL_PATH = Path(__file__).with_name("copy_descriptor.onnx")
# 1 in 15,000 unit vectors of 64 nearly even numbers is beyond 0.5. Cosines of bytes are mostly
# within 0.004 of the descriptors' cosines, and at worst 0.01.
_SCALE = 254.0
# As many thumbnails are described at once whatever the batch, since how the network multiplies, and
# so its last bits, may depend on how many there are. With 128 they would leave the cache.
_AT_ONCE = 16
# A flat image has nothing by which it could be told to be a copy.
_LEAST_CONTRAST = 1.0  # grey levels, standard deviation


@lru_cache(maxsize=1)
def _descriptor(path: Path) -> Any:
    body = path.read_bytes()
    if (sha256 := hashlib.sha256(body).hexdigest()) != DESCRIPTOR_SHA256:
        raise ValueError(
            f"{path} has the SHA-256 {sha256}, not {DESCRIPTOR_SHA256} as shipped, and an index "
            "would mean other things: install alignset again"
        )
    return open_session(body)


def descriptors(thumbnails: npt.NDArray[np.uint8]) -> Vectors:
    """int8[n, 64], near each other by cosine for copies of one image; 0 of flat thumbnails, by
    which nothing is told.

    A thumbnail's descriptor depends on its own thumbnail alone. Any thread may call this; the file
    is opened once a process, at the first call.

    Args:
      thumbnails: uint8[n, 64, 64], images squashed to squares.

    Raises:
      ValueError: the file is not the one shipped.
    """
    made = np.zeros((len(thumbnails), WIDTH), np.int8)
    # An eighth of the time of numpy's `std`: 1 us a thumbnail.
    contrasts = [float(cv2.meanStdDev(thumbnail)[1][0, 0]) for thumbnail in thumbnails]
    textured = np.flatnonzero(np.array(contrasts) >= _LEAST_CONTRAST)
    for first in range(0, len(textured), _AT_ONCE):
        some = textured[first : first + _AT_ONCE]
        batch = np.zeros((_AT_ONCE, SIDE_PX, SIDE_PX), np.uint8)
        batch[: len(some)] = thumbnails[some]
        floats = _descriptor(MODEL_PATH).run(None, {"planes": batch})[0][: len(some)]
        made[some] = np.clip(np.rint(floats * _SCALE), -127, 127)
    return made


def unit_vectors(vectors: Vectors) -> npt.NDArray[np.float32]:
    """float32[n, 64] of length 1, or 0 where a vector is zero."""
    floats = vectors.astype(np.float32)
    lengths = np.sqrt((floats * floats).sum(1, keepdims=True))  # of whole numbers, exact
    unit: npt.NDArray[np.float32] = floats / np.maximum(lengths, np.float32(1))
    return unit


def cosines(
    queries: Vectors, vectors: Vectors, rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """float64[n, k], rounded to 4 decimals: of queries int8[n, 64] with k rows of vectors each;
    -2 where a row is negative."""
    own, near = queries.astype(np.int32), vectors[np.maximum(rows, 0)].astype(np.int32)
    shared = np.einsum("nw,nkw->nk", own, near)
    squares = np.einsum("nw,nw->n", own, own)[:, None] * np.einsum(
        "nkw,nkw->nk", near, near, dtype=np.float64
    )
    made: npt.NDArray[np.float64] = np.rint(shared / np.sqrt(np.maximum(squares, 1)) * 1e4) / 1e4
    return np.where(rows < 0, -2.0, made)
