"""Pictures made smaller by whole numbers: by Pillow's filters, bit for bit, and by mean areas."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from alignset.transforms.columns.kernels import kernel

Pixels = npt.NDArray[np.uint8]
Filter = Literal["area", "bilinear", "lanczos"]

_PRECISION = 22  # bits behind the point of Pillow's weights for 8-bit samples: 32 - 8 - 2
_HALF = 1 << (_PRECISION - 1)


class Weights(NamedTuple):
    """Which samples of a line each new sample is made of, from `first` on, and how they weigh."""

    first: npt.NDArray[np.int32]  # int32[size]
    weights: npt.NDArray[np.int32]  # int32[size, taps], zero behind the last


# How far from its middle a filter reaches, in samples of the result.
_REACHES = {"bilinear": 1.0, "lanczos": 3.0}


@lru_cache(maxsize=512)
def weights_of(kind: Filter, samples: int, size: int, begin: int = 0, end: int = -1) -> Weights:
    """Of a line of `samples` as `size` new ones, those from the begin-th to before the end-th.

    Args:
      kind: "bilinear" and "lanczos" are Pillow's; "area" weighs each sample by how much of it a new
        one covers, as OpenCV's INTER_AREA does, and needs size <= samples.
    """
    scale = samples / size
    number = np.arange(begin, size if end < 0 else end)
    if kind == "area":
        low, high = number * scale, (number + 1) * scale
        first = np.floor(low + 1e-9).astype(np.int64)
        last = np.minimum(np.ceil(high - 1e-9).astype(np.int64), samples)
        at = first[:, None] + np.arange((last - first).max())
        weights = np.minimum(at + 1, high[:, None]) - np.maximum(at, low[:, None])
        weights = np.maximum(weights, 0.0)
    else:
        stretch = max(scale, 1.0)
        support = stretch * _REACHES[kind]
        centres = (number + 0.5) * scale
        first = np.maximum((centres - support + 0.5).astype(np.int64), 0)
        last = np.minimum((centres + support + 0.5).astype(np.int64), samples)
        weights = np.zeros((len(number), (last - first).max()))
        _weigh(kind == "lanczos", first, last, centres, stretch, weights)
    fixed = np.empty(weights.shape, np.int32)
    _fix(weights, first, samples, fixed)
    return Weights(first.astype(np.int32), fixed)


def resampled(pixels: Pixels, across: Weights, down: Weights) -> Pixels:
    """The picture with other rows and columns; rows first, as Pillow does it mostly.

    Args:
      pixels: uint8[height, width] or uint8[height, width, 3].
      across, down: the weights of a line and of a column.

    Returns:
      uint8[len(down.first), len(across.first)], with 3 samples where there were as many.
    """
    pixels = np.ascontiguousarray(pixels)
    height, columns = len(pixels), len(across.first)
    wide = np.empty((height, columns, *pixels.shape[2:]), np.uint8)
    if pixels.ndim == 2:
        _grey_rows(pixels, *across, np.empty(pixels.shape[1], np.int32), wide)
    else:
        _rows(pixels, *across, wide)
    return _columns_of(wide, down)


def area_resampled(pixels: Pixels, width: int, height: int) -> Pixels:
    """The picture made smaller by the mean of what each new pixel covers.

    Columns first, which costs a half of rows first. Within one of OpenCV's INTER_AREA, in half its
    time.

    Args:
      pixels: as for `resampled`. width, height: px, at most what it has.
    """
    tall = _columns_of(np.ascontiguousarray(pixels), weights_of("area", pixels.shape[0], height))
    # Turned, a line's samples are added up many at once, which pays for turning it twice.
    turned = _columns_of(_turned(tall), weights_of("area", pixels.shape[1], width))
    return _turned(turned)


def _turned(pixels: Pixels) -> Pixels:
    """Rows as columns, and columns as rows."""
    if pixels.ndim == 2:
        return np.ascontiguousarray(pixels.T)
    out = np.empty((pixels.shape[1], pixels.shape[0], 3), np.uint8)
    _turn(pixels, out)
    return out


def _columns_of(pixels: Pixels, down: Weights) -> Pixels:
    shape = (len(down.first), *pixels.shape[1:])
    length = math.prod(pixels.shape[1:])
    out = np.empty((len(down.first), length), np.uint8)
    _columns(pixels.reshape(-1, length), *down, np.empty(length, np.int32), out)
    return out.reshape(shape)


@kernel
def _weigh(is_lanczos, first, last, centres, stretch, weights):  # type: ignore[no-untyped-def]
    """How filters weigh samples by their distance from the middle of a new one."""
    for new in range(weights.shape[0]):
        for tap in range(last[new] - first[new]):
            distance = abs(first[new] + tap - centres[new] + 0.5) / stretch
            if not is_lanczos:
                weights[new, tap] = max(1.0 - distance, 0.0)
            elif distance == 0.0:
                weights[new, tap] = 1.0
            elif distance < 3.0:
                third = math.sin(math.pi * distance / 3.0)  # of which the whole's sine follows
                whole = third * (3.0 - 4.0 * third * third)
                weights[new, tap] = 3.0 * whole * third / (math.pi * distance) ** 2


@kernel
def _fix(weights, first, samples, fixed):  # type: ignore[no-untyped-def]
    """Makes weights whole numbers whose sum is one, and moves back what reaches over the end."""
    taps = weights.shape[1]
    for new in range(weights.shape[0]):
        total = 0.0
        for tap in range(taps):
            total += weights[new, tap]
        over = max(first[new] + taps - samples, 0)
        for tap in range(over):
            fixed[new, tap] = 0
        for tap in range(over, taps):
            weight = weights[new, tap - over] / total * (1 << _PRECISION)
            fixed[new, tap] = np.int32(weight + 0.5 if weight >= 0.0 else weight - 0.5)
        first[new] -= over


@kernel
def _turn(pixels, out):  # type: ignore[no-untyped-def]
    for first in range(0, pixels.shape[0], 16):  # so many lines stay in the cache
        for x in range(pixels.shape[1]):
            for y in range(first, min(first + 16, pixels.shape[0])):
                out[x, y, 0] = pixels[y, x, 0]
                out[x, y, 1] = pixels[y, x, 1]
                out[x, y, 2] = pixels[y, x, 2]


@kernel
def _byte(total):  # type: ignore[no-untyped-def]
    return np.uint8(min(max(total >> _PRECISION, 0), 255))


@kernel
def _rows(pixels, first, weights, wide):  # type: ignore[no-untyped-def]
    for row in range(wide.shape[0]):
        line, out = pixels[row], wide[row]
        for x in range(out.shape[0]):
            red = green = blue = np.int32(_HALF)
            for tap in range(weights.shape[1]):
                at, weight = first[x] + tap, weights[x, tap]
                red = np.int32(red + weight * np.int32(line[at, 0]))
                green = np.int32(green + weight * np.int32(line[at, 1]))
                blue = np.int32(blue + weight * np.int32(line[at, 2]))
            out[x, 0], out[x, 1], out[x, 2] = _byte(red), _byte(green), _byte(blue)


@kernel
def _grey_rows(pixels, first, weights, line, wide):  # type: ignore[no-untyped-def]
    for row in range(wide.shape[0]):
        pixel, out = pixels[row], wide[row]
        for at in range(line.shape[0]):  # once, and not for each new sample that it is a part of
            line[at] = pixel[at]
        for x in range(out.shape[0]):
            total = np.int32(_HALF)
            samples, weighs = line[first[x] : first[x] + weights.shape[1]], weights[x]
            for tap in range(len(weighs)):
                total = np.int32(total + weighs[tap] * samples[tap])
            out[x] = _byte(total)


@kernel
def _columns(lines, first, weights, sums, out):  # type: ignore[no-untyped-def]
    for y in range(out.shape[0]):
        new = out[y]
        for at in range(sums.shape[0]):
            sums[at] = np.int32(_HALF)
        for tap in range(weights.shape[1]):
            weight = weights[y, tap]
            if not weight:
                continue
            line = lines[first[y] + tap]
            for at in range(sums.shape[0]):
                sums[at] += weight * np.int32(line[at])
        for at in range(sums.shape[0]):
            new[at] = _byte(sums[at])
