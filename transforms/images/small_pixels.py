"""A picture's pixels as small as an image model wants them, by the cheapest decode."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import simplejpeg

from transforms.columns.kernels import kernel
from transforms.images.displayed import displayed
from transforms.images.examine import Image, open_picture, turn_of
from transforms.images.jpeg_header import jpeg_header

Pixels = npt.NDArray[np.uint8]

_PRECISION = 22  # bits behind the point of Pillow's weights for 8-bit samples: 32 - 8 - 2
_HALF = 1 << (_PRECISION - 1)
# Of either side of what is squashed, below: a strip of 1 x 1,000,000 px is a file of 2 KB, and its
# lines of 224 samples take 0.7 GB.
_MOST_PX = 1 << 16


def small_pixels(body: bytes, image: Image, resize: int, size: int) -> Pixels:
    """The picture as displayed, squashed to a square, and the middle of that.

    Args:
      body: the file. image: what `examine` said of it.
      resize, size: px a side, of the square and of its middle.

    Returns:
      uint8[size, size, 3], RGB.

    Raises:
      Exception: the picture cannot be decoded after all; Pillow raises many kinds.
    """
    with turn_of(image.width * image.height):
        return squashed(_decoded(body, image, size), resize, size)


def _decoded(body: bytes, image: Image, smallest_px: int) -> Pixels:
    """uint8[height, width, 3], RGB as displayed; of a JPEG a half, a quarter or so of it."""
    if image.format == "jpeg":
        pixels = _scaled_jpeg(body, smallest_px)
        if pixels is not None:
            return pixels
    shown = displayed(open_picture(body, image.format)).convert("RGB")
    across, down = (1 + side // _MOST_PX for side in shown.size)
    return np.asarray(shown.reduce((across, down)) if max(across, down) > 1 else shown)


def _scaled_jpeg(body: bytes, smallest_px: int) -> Pixels | None:
    """What libjpeg makes of it for less than the whole costs; None where Pillow must look at it."""
    header = jpeg_header(body)
    if header is None or header.components not in (1, 3) or not header.usual or header.annotated:
        return None
    # By halves alone: libjpeg's other eighths take as long as the whole, and are less like it.
    shorter = min(header.width, header.height)
    factor = next((n for n in (8, 4, 2) if shorter >= n * smallest_px), 1)
    try:
        # By accurate steps, which cost no more: what is not reduced is as Pillow decodes it.
        return simplejpeg.decode_jpeg(
            body,
            "RGB",
            fastdct=False,
            fastupsample=False,
            min_height=-(-header.height // factor),
            min_width=-(-header.width // factor),
            strict=False,
        )
    except ValueError:
        return None


class _Weights(NamedTuple):
    """Which samples of a line each new sample is made of, from `first` on, and how they weigh."""

    first: npt.NDArray[np.int32]  # int32[size]
    weights: npt.NDArray[np.int32]  # int32[size, taps], zero behind the last


@lru_cache(maxsize=256)
def _weights(samples: int, resize: int, size: int) -> _Weights:
    """Of Pillow's BILINEAR, `samples` to `resize`, of which the middle `size` are wanted."""
    scale = samples / resize
    support = max(scale, 1.0)
    centres = (np.arange(size) + (resize - size) // 2 + 0.5) * scale
    first = np.maximum((centres - support + 0.5).astype(np.int64), 0)
    last = np.minimum((centres + support + 0.5).astype(np.int64), samples)
    taps = np.arange((last - first).max())
    at = np.abs(first[:, None] + taps - centres[:, None] + 0.5) / support
    weights = np.where(taps < (last - first)[:, None], np.maximum(1.0 - at, 0.0), 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    fixed = np.floor(weights * (1 << _PRECISION) + 0.5).astype(np.int32)
    # No window may reach over the end: such are moved back, and their weights with them.
    over = np.maximum(first + len(taps) - samples, 0)
    for row in np.flatnonzero(over):
        fixed[row] = np.roll(fixed[row], over[row])
    return _Weights((first - over).astype(np.int32), fixed)


@kernel
def _squash_rows(pixels, first, weights, wide):  # type: ignore[no-untyped-def]
    for row in range(wide.shape[0]):
        line, out = pixels[row], wide[row]
        for x in range(out.shape[0]):
            red = green = blue = np.int32(_HALF)
            for tap in range(weights.shape[1]):
                at, weight = first[x] + tap, weights[x, tap]
                red += weight * np.int32(line[at, 0])
                green += weight * np.int32(line[at, 1])
                blue += weight * np.int32(line[at, 2])
            out[x, 0], out[x, 1] = np.uint8(red >> _PRECISION), np.uint8(green >> _PRECISION)
            out[x, 2] = np.uint8(blue >> _PRECISION)


@kernel
def _squash_columns(wide, first, weights, sums, small):  # type: ignore[no-untyped-def]
    for y in range(small.shape[0]):
        out = small[y]
        for at in range(sums.shape[0]):
            sums[at] = np.int32(_HALF)
        for tap in range(weights.shape[1]):
            weight = weights[y, tap]
            line = wide[first[y] + tap]
            for at in range(sums.shape[0]):
                sums[at] += weight * np.int32(line[at])
        for at in range(sums.shape[0]):
            out[at] = np.uint8(sums[at] >> _PRECISION)


def squashed(pixels: Pixels, resize: int, size: int) -> Pixels:
    """What Pillow gives for `resize((resize, resize), BILINEAR)` and a crop of the middle.

    Bit for bit, but where a picture is over 100 times as tall as wide, of which Pillow squashes the
    columns first. In a third of its time: the rest of a photograph's way costs 1 ms, so that it is
    a matter of 3 in 100 images.

    Args:
      pixels: uint8[height, width, 3]. resize, size: px a side.

    Returns:
      uint8[size, size, 3].
    """
    pixels = np.ascontiguousarray(pixels)
    height, width = pixels.shape[:2]
    across, down = _weights(width, resize, size), _weights(height, resize, size)
    wide = np.empty((height, size, 3), np.uint8)
    _squash_rows(pixels, *across, wide)
    small, sums = np.empty((size, size * 3), np.uint8), np.empty(size * 3, np.int32)
    _squash_columns(wide.reshape(height, size * 3), *down, sums, small)
    return small.reshape(size, size, 3)
