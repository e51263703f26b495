"""The rows of PNGs, behind their filters and freed of them.

Source: PNG (W3C recommendation, third edition), chapter 9.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from alignset.transforms.columns.kernels import kernel
from alignset.transforms.images.resampling import Pixels

_PAETH = 4


def filtered_rows(pixels: Pixels) -> Pixels:
    """The bytes of a picture's rows, each behind the number of Paeth's filter.

    Args:
      pixels: uint8[height, width] or uint8[height, width, n].

    Returns:
      uint8[height * (1 + width * n)].
    """
    rows = np.ascontiguousarray(pixels).reshape(len(pixels), -1)
    filtered: Pixels = np.empty((rows.shape[0], 1 + rows.shape[1]), np.uint8)
    _filter(rows, rows.shape[1] // pixels.shape[1], filtered)
    return filtered.reshape(-1)


def freed_rows(filtered: Pixels, samples: int) -> Pixels | None:
    """Rows without their filters; None where a filter has no known number.

    Args:
      filtered: uint8[m, 1 + n], each row behind its filter's number.
      samples: bytes of a pixel, or 1 where these are less.

    Returns:
      uint8[m, n].
    """
    free: Pixels = np.empty((filtered.shape[0], filtered.shape[1] - 1), np.uint8)
    return free if _unfilter(filtered, samples, np.zeros(free.shape[1], np.uint8), free) else None


@kernel
def _paeth_of_bytes(left, up, corner):  # type: ignore[no-untyped-def]
    """The one of three neighbours that is nearest to left + up - corner, in bytes alone: a corner
    beyond both others leaves the farther of them."""
    low, high = min(left, up), max(left, up)
    to_left = np.uint8(max(up, corner) - min(up, corner))
    to_up = np.uint8(max(left, corner) - min(left, corner))
    to_corner = np.uint8(max(to_left, to_up) - min(to_left, to_up))
    nearest = up if to_up <= to_corner else corner
    if (to_left <= to_up) & (to_left <= to_corner):
        nearest = left
    if corner >= high:
        nearest = low
    if corner <= low:
        nearest = high
    return nearest


@kernel
def _filter(rows, samples, filtered):  # type: ignore[no-untyped-def]
    for y in range(rows.shape[0]):
        row, out = rows[y], filtered[y, 1:]
        filtered[y, 0] = np.uint8(_PAETH)
        behind, rest = row[samples:], out[samples:]
        if y == 0:
            for at in range(samples):
                out[at] = row[at]
            for at in range(behind.shape[0]):
                rest[at] = np.uint8(behind[at] - row[at])
            continue
        above = rows[y - 1]
        above_behind = above[samples:]
        for at in range(samples):
            out[at] = np.uint8(row[at] - above[at])
        for at in range(behind.shape[0]):
            rest[at] = np.uint8(behind[at] - _paeth_of_bytes(row[at], above_behind[at], above[at]))


@kernel
def _unfilter(filtered, samples, zeros, free):  # type: ignore[no-untyped-def]
    """Frees rows of their filters; false where one has no known number."""
    above = zeros
    for y in range(free.shape[0]):
        if not _free_row(filtered[y, 0], filtered[y, 1:], above, samples, free[y]):
            return False
        above = free[y]
    return True


@kernel
def _free_row(way, row, above, samples, out):  # type: ignore[no-untyped-def]
    """Frees a row of its filter; false where that has no known number.

    Args:
      way: the filter's number. row: uint8[n]. above: uint8[n], the row before, free; or zeros.
      samples: bytes of a pixel. out: uint8[n], the result.
    """
    if way == 0:
        for at in range(out.shape[0]):
            out[at] = row[at]
    elif way == 1:
        _free_of_left(row, samples, out)
    elif way == 2:
        for at in range(out.shape[0]):
            out[at] = np.uint8(row[at] + above[at])
    elif way == 3:
        _free_of_mean(row, above, samples, out)
    elif way == 4 and samples in (3, 4):
        _free_words_of_paeth(row, above, samples, out)
    elif way == 4:
        _free_of_paeth(row, above, samples, out)
    else:
        return False
    return True


@kernel
def _free_of_left(row, samples, out):  # type: ignore[no-untyped-def]
    for at in range(samples):
        out[at] = row[at]
    behind, rest = out[samples:], row[samples:]
    for at in range(rest.shape[0]):
        behind[at] = np.uint8(rest[at] + out[at])


@kernel
def _free_of_mean(row, above, samples, out):  # type: ignore[no-untyped-def]
    for at in range(samples):
        out[at] = np.uint8(row[at] + (above[at] >> 1))
    behind, rest, above = out[samples:], row[samples:], above[samples:]
    for at in range(rest.shape[0]):
        behind[at] = np.uint8(rest[at] + ((np.int64(out[at]) + np.int64(above[at])) >> 1))


@kernel
def _paeth(left, up, corner):  # type: ignore[no-untyped-def]
    """The one of three numbers that is nearest to left + up - corner."""
    to_left, to_up = up - corner, left - corner
    to_corner = abs(to_left + to_up)
    to_left, to_up = abs(to_left), abs(to_up)
    nearest = up if to_up <= to_corner else corner
    return left if (to_left <= to_up) & (to_left <= to_corner) else nearest


@kernel
def _free_of_paeth(row, above, samples, out):  # type: ignore[no-untyped-def]
    for at in range(samples):
        out[at] = np.uint8(row[at] + above[at])
    behind, rest, up = out[samples:], row[samples:], above[samples:]
    for at in range(rest.shape[0]):
        guess = _paeth(np.int64(out[at]), np.int64(up[at]), np.int64(above[at]))
        behind[at] = np.uint8(rest[at] + guess)


@intrinsic
def _freed(_context, left, up, corner, error):  # type: ignore[no-untyped-def]
    """What `_paeth` gives, and the error, for each of four bytes at once; numba would take them one
    by one, since each pixel waits for the last. That one, of which no number is ever made, is a
    float so that it stays in a vector's register: 3.7 ns a pixel, and 5.1 as a whole number."""

    def build(_context, builder, _signature, words):  # type: ignore[no-untyped-def]
        narrow, wide = (ir.VectorType(ir.IntType(bits), 4) for bits in (8, 16))
        zeros = ir.Constant(wide, [0] * 4)

        def size(number):  # type: ignore[no-untyped-def]
            is_less = builder.icmp_signed("<", number, zeros)
            return builder.select(is_less, builder.sub(zeros, number), number)

        left, up, corner, error = (builder.bitcast(word, narrow) for word in words)
        left, up, corner = (builder.zext(word, wide) for word in (left, up, corner))
        rise, run = builder.sub(up, corner), builder.sub(left, corner)
        to_left, to_up, to_corner = map(size, (rise, run, builder.add(rise, run)))
        is_up = builder.icmp_signed("<=", to_up, to_corner)
        others = builder.select(is_up, to_up, to_corner)
        is_left = builder.icmp_signed("<=", to_left, others)
        nearest = builder.select(is_left, left, builder.select(is_up, up, corner))
        freed = builder.add(builder.trunc(nearest, narrow), error)
        return builder.bitcast(freed, ir.FloatType())

    return types.float32(types.float32, types.uint32, types.uint32, types.uint32), build


@intrinsic
def _sum(_context, left, error):  # type: ignore[no-untyped-def]
    """The same where the left pixel is what is guessed."""

    def build(_context, builder, _signature, words):  # type: ignore[no-untyped-def]
        left, error = (builder.bitcast(word, ir.VectorType(ir.IntType(8), 4)) for word in words)
        return builder.bitcast(builder.add(left, error), ir.FloatType())

    return types.float32(types.float32, types.uint32), build


@intrinsic
def _word_of(_context, freed):  # type: ignore[no-untyped-def]
    """Its four bytes as a whole number."""

    def build(_context, builder, _signature, words):  # type: ignore[no-untyped-def]
        return builder.bitcast(words[0], ir.IntType(32))

    return types.uint32(types.float32), build


@kernel
def _word(line, at):  # type: ignore[no-untyped-def]
    low = np.uint32(line[at]) | np.uint32(line[at + np.uint64(1)]) << np.uint32(8)
    high = np.uint32(line[at + np.uint64(2)]) | np.uint32(line[at + np.uint64(3)]) << np.uint32(8)
    return np.uint32(low | high << np.uint32(16))


@kernel
def _put_word(line, at, word):  # type: ignore[no-untyped-def]
    line[at] = np.uint8(word)
    line[at + np.uint64(1)] = np.uint8(word >> np.uint32(8))
    line[at + np.uint64(2)] = np.uint8(word >> np.uint32(16))
    line[at + np.uint64(3)] = np.uint8(word >> np.uint32(24))


@kernel
def _free_words_of_paeth(row, above, samples, out):  # type: ignore[no-untyped-def]
    """Three or four bytes a pixel at once: of three the fourth is the next pixel's first, and is
    written over. In drawings most pixels are as their neighbours: where the two above are equal,
    the one to the left is the guess."""
    left = np.float32(0)
    corner = np.uint32(0)
    at, end, step = np.uint64(0), np.uint64(out.shape[0]), np.uint64(samples)
    while at + np.uint64(4) <= end:
        up, error = _word(above, at), _word(row, at)
        is_left = up == corner
        left = _sum(left, error) if is_left else _freed(left, up, corner, error)  # type: ignore[call-arg]
        _put_word(out, at, _word_of(left))  # type: ignore[call-arg]
        at += step
        corner = up
    for last in range(out.shape[0] - (end - at), out.shape[0]):  # three bytes have no fourth
        is_first = last < samples
        before = np.int64(0) if is_first else np.int64(out[last - samples])
        cornered = np.int64(0) if is_first else np.int64(above[last - samples])
        out[last] = np.uint8(row[last] + _paeth(before, np.int64(above[last]), cornered))
