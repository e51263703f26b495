"""PNG files as samples, in a third of the time that Pillow takes: the whole stream is inflated at
once by libdeflate, and its rows are freed of their filters by kernels.

Source: PNG (W3C recommendation, third edition).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import deflate
import numpy as np

from alignset.transforms.images.file_formats import PngPass, png_chunks, png_passes
from alignset.transforms.images.png_rows import freed_rows
from alignset.transforms.images.resampling import Pixels

MOST_BYTES = 1 << 26  # of rows, which are held twice
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
        return self.height * (1 + self.row_bytes(self.width)) <= MOST_BYTES


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
        if number == _MOST_CHUNKS or not (kind == b"IDAT" or _has_its_sum(body, begin, end)):
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
        if kind == b"IEND":
            break
    colours, alphas = parts[b"PLTE"], parts[b"tRNS"]
    if place < len(_ORDER) - 1 or body[8:16] != b"\0\0\0\rIHDR":
        return None
    if (colour == _PALETTE) != bool(colours) or (alphas and not colours):
        return None
    return _Contents(b"".join(parts[b"IDAT"]), b"".join(colours), b"".join(alphas))


def _has_its_sum(body: bytes, begin: int, end: int) -> bool:
    checksum = int.from_bytes(body[end : end + 4], "big")
    return deflate.crc32(body[begin - 4 : end]) == checksum


def _inflated(header: _Header, stream: bytes) -> Pixels | None:
    """The bytes of all rows; None where there are not as many as there must be."""
    size = sum(part.rows * (1 + header.row_bytes(part.columns)) for part in header.passes())
    try:
        rows = np.frombuffer(deflate.zlib_decompress(stream, size), np.uint8)
    except deflate.DeflateError:
        return None
    return rows if len(rows) == size else None


def _samples(header: _Header, stream: bytes) -> Pixels | None:
    """uint8[height, width, n] of the rows in a stream, of less than 8 bits as they are."""
    rows = _inflated(header, stream)
    if rows is None:
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
    count = _SAMPLES[header.colour]
    free = freed_rows(rows.reshape(-1, 1 + length), max(1, count * header.depth // 8))
    if free is None:
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
