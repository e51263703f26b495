"""PNG files as samples, in a third of the time that Pillow takes: the whole stream is inflated at
once by libdeflate, and its rows are freed of their filters by kernels.

Source: PNG (W3C recommendation, third edition).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import deflate
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from transforms.columns.kernels import kernel
from transforms.images.file_formats import PngPass, png_chunks, png_passes
from transforms.images.resampling import Pixels

_MOST_BYTES = 1 << 26  # of rows, which are held twice
_MOST_CHUNKS = 1 << 13  # encoders write 8 KB of pixels or more into each
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_SAMPLES = {_GREY: 1, _RGB: 3, _PALETTE: 1, _GREY_ALPHA: 2, _RGBA: 4}
_DEPTHS = {_GREY: (1, 2, 4, 8, 16), _PALETTE: (1, 2, 4, 8)}
# Chunks that say nothing of what is seen, as Pillow shows it. Texts may turn a picture (EXIF, XMP).
_SILENT = frozenset({b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"pHYs", b"tIME", b"bKGD", b"sBIT"})
_ORDER = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"", b"IEND")
_PLAIN_TEXTS = (b"Software\0", b"Title\0", b"Author\0", b"Description\0", b"date:")


class _Header(NamedTuple):
    """What IHDR says."""

    width: int
    height: int
    depth: int
    colour: int
    compression: int
    filters: int
    interlaced: int

    def row_bytes(self, columns: int) -> int:
        """Of so many pixels, without the number of the row's filter."""
        return (columns * self.depth * _SAMPLES[self.colour] + 7) // 8

    def passes(self) -> list[PngPass]:
        return png_passes(self.width, self.height, bool(self.interlaced))

    def is_usual(self) -> bool:
        """Whether it is valid, and rows are not too many to be held."""
        if self.colour not in _SAMPLES or self.depth not in _DEPTHS.get(self.colour, (8, 16)):
            return False
        if not self.width * self.height or self.compression or self.filters or self.interlaced > 1:
            return False
        return self.height * (1 + self.row_bytes(self.width)) <= _MOST_BYTES


class _Contents(NamedTuple):
    """The stream of rows; the colours of a palette, and their alphas."""

    stream: bytes
    colours: bytes
    alphas: bytes


def png_samples(body: bytes) -> Pixels | None:
    """The samples of a picture, of 8 bits: of 16 the higher ones, of less as Pillow spreads them.

    Args:
      body: a PNG that is whole, and whose critical chunks have the right sums.

    Returns:
      uint8[height, width, n], where n is 1 for grey, 3 for RGB and 4 for RGBA. None where another
      decoder must look at it: animated, with metadata that may turn it, with one colour that is
      transparent, with rows of more than 64 MiB, or with anything that is wrong.
    """
    header = _Header(*struct.unpack(">IIBBBBB", body[16:29]))
    contents = _contents(body, header.colour) if header.is_usual() else None
    samples = _samples(header, contents.stream) if contents else None
    if samples is None or contents is None:
        return None
    if header.colour == _PALETTE:
        return _coloured(samples[:, :, 0], contents)
    if header.colour == _GREY_ALPHA:
        return samples[:, :, [0, 0, 0, 1]]
    return samples if header.depth >= 8 else samples * np.uint8(255 // ((1 << header.depth) - 1))


def _contents(body: bytes, colour: int) -> _Contents | None:
    """None where chunks are not in their order, or may change what is seen in another way."""
    parts: dict[bytes, list[bytes]] = {kind: [] for kind in _ORDER}
    place = -1
    for number, (kind, begin, end) in enumerate(png_chunks(body)):
        if number == _MOST_CHUNKS:
            return None
        if kind in _SILENT or (kind == b"tEXt" and body.startswith(_PLAIN_TEXTS, begin)):
            place += place == _ORDER.index(b"IDAT")  # which follow each other
            continue
        if kind not in parts or not (
            place < _ORDER.index(kind) or kind == b"IDAT" == _ORDER[place]
        ):
            return None
        place = _ORDER.index(kind)
        parts[kind].append(body[begin:end])
    colours, alphas = parts[b"PLTE"], parts[b"tRNS"]
    if place < len(_ORDER) - 1 or body[8:16] != b"\0\0\0\rIHDR":
        return None
    if (colour == _PALETTE) != bool(colours) or (alphas and not colours):
        return None
    return _Contents(b"".join(parts[b"IDAT"]), b"".join(colours), b"".join(alphas))


def _samples(header: _Header, stream: bytes) -> Pixels | None:
    """uint8[height, width, n] of the rows in a stream, of less than 8 bits as they are."""
    size = sum(part.rows * (1 + header.row_bytes(part.columns)) for part in header.passes())
    try:
        rows = np.frombuffer(deflate.zlib_decompress(stream, size), np.uint8)
    except deflate.DeflateError:
        return None
    if len(rows) != size:
        return None
    if not header.interlaced:
        return _unfiltered(header, rows, header.width)
    whole = np.empty((header.height, header.width, _SAMPLES[header.colour]), np.uint8)
    for part in header.passes():
        count = part.rows * (1 + header.row_bytes(part.columns))
        samples = _unfiltered(header, rows[:count], part.columns)
        if samples is None:
            return None
        whole[part.top :: part.down, part.left :: part.across] = samples
        rows = rows[count:]
    return whole


def _unfiltered(header: _Header, rows: Pixels, columns: int) -> Pixels | None:
    """uint8[m, columns, n] of m rows; None where a filter has no known number."""
    length = header.row_bytes(columns)
    filtered = rows.reshape(-1, 1 + length)
    free = np.empty((len(filtered), length), np.uint8)
    count = _SAMPLES[header.colour]
    if not _unfilter(filtered, max(1, count * header.depth // 8), np.zeros(length, np.uint8), free):
        return None
    if header.depth == 16:
        free = free[:, ::2]
    elif header.depth < 8:
        bits = np.unpackbits(free, axis=1)[:, : columns * header.depth]
        weights = (1 << np.arange(header.depth)[::-1]).astype(np.uint8)
        free = bits.reshape(len(free), columns, header.depth) @ weights
    return free.reshape(len(free), columns, count)


def _coloured(numbers: Pixels, contents: _Contents) -> Pixels | None:
    """The colours that numbers stand for: RGB, or RGBA where the palette has alphas."""
    colours = np.frombuffer(contents.colours, np.uint8)
    if len(colours) % 3 or not 0 < len(colours) <= 3 * 256:
        return None
    colours = colours.reshape(-1, 3)
    if contents.alphas:
        alphas = np.full((len(colours), 1), 255, np.uint8)
        if len(contents.alphas) > len(alphas):
            return None
        alphas[: len(contents.alphas), 0] = np.frombuffer(contents.alphas, np.uint8)
        colours = np.hstack([colours, alphas])
    return colours[numbers] if numbers.max() < len(colours) else None


@kernel
def _unfilter(filtered, samples, zeros, free):  # type: ignore[no-untyped-def]
    """Frees rows of their filters; false where one has no known number.

    Args:
      filtered: uint8[m, 1 + n], each row behind its filter's number. samples: bytes of a pixel.
      zeros: uint8[n], what is above the first row.
      free: uint8[m, n], the result.
    """
    above = zeros
    for y in range(free.shape[0]):
        way, row, out = filtered[y, 0], filtered[y, 1:], free[y]
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
        above = out
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


@intrinsic  # type: ignore[untyped-decorator]
def _freed(_context, left, up, corner, error):  # type: ignore[no-untyped-def]
    """What `_paeth` gives, and the error, for each of four bytes at once: numba's loops take them one
    by one, since each pixel waits for the last. That one, of which no number is ever made, is a
    float so that it stays in a vector's register: 3.7 ns a pixel, and 5.1 as a whole number."""

    def build(_context, builder, _signature, words):  # type: ignore[no-untyped-def]
        narrow, wide = (ir.VectorType(ir.IntType(bits), 4) for bits in (8, 16))
        zeros = ir.Constant(wide, [0] * 4)

        def distance(one, other):  # type: ignore[no-untyped-def]
            apart = builder.sub(one, other)
            is_less = builder.icmp_signed("<", apart, zeros)
            return apart, builder.select(is_less, builder.sub(zeros, apart), apart)

        left, up, corner, error = (builder.bitcast(word, narrow) for word in words)
        left, up, corner = (builder.zext(word, wide) for word in (left, up, corner))
        (rise, to_left), (run, to_up) = distance(up, corner), distance(left, corner)
        _, to_corner = distance(builder.add(rise, run), zeros)
        is_up = builder.icmp_signed("<=", to_up, to_corner)
        others = builder.select(is_up, to_up, to_corner)
        is_left = builder.icmp_signed("<=", to_left, others)
        nearest = builder.select(is_left, left, builder.select(is_up, up, corner))
        freed = builder.add(builder.trunc(nearest, narrow), error)
        return builder.bitcast(freed, ir.FloatType())

    return types.float32(types.float32, types.uint32, types.uint32, types.uint32), build


@intrinsic  # type: ignore[untyped-decorator]
def _sum(_context, left, error):  # type: ignore[no-untyped-def]
    """The same where the left pixel is what is guessed."""

    def build(_context, builder, _signature, words):  # type: ignore[no-untyped-def]
        left, error = (builder.bitcast(word, ir.VectorType(ir.IntType(8), 4)) for word in words)
        return builder.bitcast(builder.add(left, error), ir.FloatType())

    return types.float32(types.float32, types.uint32), build


@intrinsic  # type: ignore[untyped-decorator]
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
        if up == corner:
            left = _sum(left, error)
        else:
            left = _freed(left, up, corner, error)
        _put_word(out, at, _word_of(left))
        at += step
        corner = up
    for last in range(out.shape[0] - (end - at), out.shape[0]):  # three bytes have no fourth
        is_first = last < samples
        before = np.int64(0) if is_first else np.int64(out[last - samples])
        cornered = np.int64(0) if is_first else np.int64(above[last - samples])
        out[last] = np.uint8(row[last] + _paeth(before, np.int64(above[last]), cornered))
