"""What the header of a usual JPEG says to a decoder: its layout, and tables that step over symbols.

Source: ITU-T T.81, annexes B (markers), C and F (Huffman coding).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

LOOK_UP_BITS = 14  # a look-up, 32 KB a table; 12 and 15 take an eighth longer
_BASELINE, _EXTENDED = 0xC0, 0xC1
_OTHER_FRAMES = frozenset({0xC2, 0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)})


class Layout(NamedTuple):
    """What the decoder needs of a header, but for sizes and quanta.

    Attributes:
      sampling: blocks of luma across and down in a unit.
      blocks: int64[n, 7], of each block of a unit: its component; where the steps of its first and
        its other coefficients begin; its row in a unit of so many rows; its column, of so many.
      steps, codes, symbols: those of its tables, joined.
    """

    sampling: tuple[int, int]
    blocks: npt.NDArray[np.int64]
    steps: npt.NDArray[np.uint16]
    codes: npt.NDArray[np.int32]
    symbols: npt.NDArray[np.uint8]


class Table(NamedTuple):
    """A Huffman table.

    Attributes:
      steps: uint16[2, 1 << 14], by the next bits: of one symbol, and of as many as fit.
        For first coefficients: code's bits, then (from bit 4) the bits of its value. For others:
        all bits, coefficients passed (from bit 4), whether it was the block's last (bit 12). 0
        where a symbol does not fit.
      codes: int32[3, 17]: by length, the first code, how many, and where their symbols begin.
      symbols: uint8[n].
    """

    steps: npt.NDArray[np.uint16]
    codes: npt.NDArray[np.int32]
    symbols: npt.NDArray[np.uint8]


class Header(NamedTuple):
    """The segments that matter, as they are in the file; of quanta and Huffman tables all.

    Attributes:
      begin: where the coded data begin.
    """

    frame: bytes
    scan: bytes
    quanta: bytes
    huffman: bytes
    begin: int


def _segments(body: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, begin and end of its data) of each segment, to the first scan's header."""
    at, marker = 2, 0
    while marker != 0xDA and at + 4 <= len(body) and body[at] == 0xFF:
        marker = body[at + 1]
        end = at + 2 + int.from_bytes(body[at + 2 : at + 4], "big")
        yield marker, at + 4, end
        at = end


def read_header(body: bytes) -> Header | None:
    frame = quanta = huffman = b""
    for marker, begin, end in _segments(body):
        if marker == 0xDB:
            quanta += body[begin:end]
        elif marker == 0xC4:
            huffman += body[begin:end]
        elif marker in (_BASELINE, _EXTENDED):
            frame = body[begin:end]
        elif marker == 0xDA:
            usual = end <= len(body) and len(frame) >= 9
            return Header(frame, body[begin:end], quanta, huffman, end) if usual else None
        elif _is_unusual(marker, body[begin:end]):
            return None
    return None


def _is_unusual(marker: int, data: bytes) -> bool:
    """Another kind of frame, restart markers, or other colours than YCbCr."""
    if marker in _OTHER_FRAMES or (marker == 0xDD and any(data)):
        return True
    return marker == 0xEE and data[:5] == b"Adobe" and data[11:12] != b"\1"


@lru_cache(maxsize=256)
def quanta_of(data: bytes) -> dict[int, int]:
    """What the first coefficients are multiplied by, by the table's number; {} of a broken one."""
    at, quanta = 0, {}
    while at < len(data):
        wide = data[at] >> 4
        quanta[data[at] & 15] = int.from_bytes(data[at + 1 : at + 2 + wide], "big")
        at += 1 + 64 * (1 + wide)
    return quanta if at == len(data) else {}


def _huffman(data: bytes) -> dict[int, bytes]:
    """The coded tables by their number; {} where one is broken."""
    at, huffman = 0, {}
    while at < len(data):
        size = 17 + sum(data[at + 1 : at + 17])
        huffman[data[at]] = data[at + 1 : at + size]
        at += size
    return huffman if at == len(data) else {}


@lru_cache(maxsize=32)  # 260 KB each; encoders that have no tables of their own share one
def layout_of(frame: bytes, scan: bytes, coded: bytes) -> Layout | None:
    """How a scan is laid out; None where it is not a usual one.

    Args:
      frame: from the number of components on. scan, coded: the segments' data.
    """
    count, huffman = frame[0], _huffman(coded)
    usual = count in (1, 3) and len(frame) == 1 + 3 * count
    if not usual or scan[:1] != bytes([count]) or len(scan) != 4 + 2 * count:
        return None
    if count == 3 and frame[1] == 0x52:  # "R" of RGB
        return None
    blocks: list[tuple[int, ...]] = []
    tables: list[Table] = []
    for n in range(count):
        identity, sampling = frame[1 + 3 * n : 3 + 3 * n]
        chosen, rows = scan[1 + 2 * n : 3 + 2 * n]
        used = (rows >> 4, 0x10 | (rows & 15))
        made = [table_of(huffman.get(t, b""), t >> 4) for t in used]
        across, down = (sampling >> 4, sampling & 15) if count == 3 else (1, 1)
        if chosen != identity or across not in (1, 2) or down not in (1, 2):
            return None
        begin = [(len(tables) + place) << (LOOK_UP_BITS + 1) for place in (0, 1)]
        tables += [table for table in made if table]
        if len(tables) != 2 * n + 2:
            return None
        blocks += [
            (n, *begin, row, down, column, across)
            for row in range(down)
            for column in range(across)
        ]
        if across > blocks[0][6] or down > blocks[0][4]:  # luma is the finest
            return None
    symbols = np.zeros((len(tables), 256), np.uint8)
    for row, table in enumerate(tables):
        symbols[row, : len(table.symbols)] = table.symbols
    steps = np.concatenate([table.steps.ravel() for table in tables])
    codes = np.stack([table.codes for table in tables])
    sampling_of_luma = (blocks[0][6], blocks[0][4])
    return Layout(sampling_of_luma, np.array(blocks, np.int64), steps, codes, symbols)


@lru_cache(maxsize=64)  # 64 KB each; most encoders use the same ones
def table_of(coded: bytes, other: int) -> Table | None:
    """A Huffman table of first or of `other` coefficients, or None where it is none."""
    if len(coded) <= 16:
        return None
    counts, symbols = np.frombuffer(coded, np.uint8, 16), np.frombuffer(coded, np.uint8, offset=16)
    if len(symbols) != int(counts.sum()) or len(symbols) > 256 or (not other and max(symbols) > 15):
        return None
    codes = np.zeros((3, 17), np.int32)
    code = place = 0
    for length, count in enumerate(counts.tolist(), 1):
        codes[:, length] = code, count, place
        code, place = code + count, place + count
        if code >= 1 << length:  # libjpeg takes no code of ones alone
            return None
        code <<= 1
    return Table(_steps(codes, symbols, other), codes, symbols)


@njit(nogil=True, cache=True)
def first_symbol(window, bits, codes, symbols):  # type: ignore[no-untyped-def]
    """The symbol that the first of some bits code, and its length; (0, 0) where there is none."""
    for length in range(1, min(bits, 16) + 1):
        code = (window >> (bits - length)) - codes[0, length]
        if 0 <= code < codes[1, length]:
            return symbols[codes[2, length] + code], length
    return 0, 0


@njit(nogil=True, cache=True)
def _steps(codes, symbols, other):  # type: ignore[no-untyped-def]
    """What `Table.steps` holds. Takes 40 us, which files with tables of their own pay for."""
    steps = np.zeros((2, 1 << LOOK_UP_BITS), np.uint16)
    one, many = steps[0], steps[1]
    for length in range(1, LOOK_UP_BITS + 1):
        for n in range(codes[1, length]):
            symbol = np.int64(symbols[codes[2, length] + n])
            used = length + (symbol & 15)
            if not other:
                step = length | (symbol << 4) if symbol < 12 else 0
            elif used > LOOK_UP_BITS or (symbol & 15 == 0 and symbol != 0 and symbol != 0xF0):
                step = 0
            else:
                step = used | (1 + (symbol >> 4)) << 4 if symbol else used | 1 << 12
            begin = (codes[0, length] + n) << (LOOK_UP_BITS - length)
            one[begin : begin + (1 << (LOOK_UP_BITS - length))] = step
    if not other:
        many[:] = one
        return steps
    for window in range(1 << LOOK_UP_BITS):
        step = np.int64(one[window])
        while step and not step >> 12:
            used = step & 15
            after = np.int64(one[np.uint64((window << used) & ((1 << LOOK_UP_BITS) - 1))])
            if not after or used + (after & 15) > LOOK_UP_BITS:
                break
            step += after  # bits and coefficients add up, neither beyond its field
        many[window] = step
    return steps
