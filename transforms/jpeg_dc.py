"""The grey plane of a usual JPEG at an eighth of its size, in two thirds of libjpeg's time.

At that size only the first coefficient of each block shows. libjpeg decodes the other 63 symbol by
symbol all the same; here a look-up steps over as many of them as 13 bits hold. Only what decodes
without the least fault is given back, to the last bit before the end marker: of all else libjpeg
must tell. Samples equal libjpeg's.

Source: ITU-T T.81, annexes B (markers) and F (sequential Huffman coding).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from transforms.hashing import read8

_BITS = 13
_SPARE = 1024  # zeros behind the coded bytes: a block takes at most 210
_BASELINE, _EXTENDED = 0xC0, 0xC1
_OTHER_FRAMES = frozenset({0xC2, 0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)})


class _Frame(NamedTuple):
    """What the decoder needs of a header.

    Attributes:
      sampling: blocks of luma across and down in a unit.
      blocks: int64[n, 7], of each block of a unit: its component; where the steps of its first and
        its other coefficients begin; its row in a unit of so many rows; its column, of so many.
      tables: the coded Huffman tables, each with 1 where it is of other coefficients.
      quantum: what the first coefficients of luma are multiplied by.
      scan: where the coded data begin.
    """

    width: int
    height: int
    sampling: tuple[int, int]
    blocks: npt.NDArray[np.int64]
    tables: tuple[tuple[bytes, int], ...]
    quantum: int
    scan: int


class _Table(NamedTuple):
    """A Huffman table.

    Attributes:
      steps: uint16[2, 1 << 13], by the next bits: of one symbol, and of as many as fit.
        For first coefficients: code's bits, then (from bit 4) the bits of its value. For others:
        all bits, coefficients passed (from bit 4), whether it was the block's last (bit 12). 0
        where a symbol does not fit.
      codes: int32[3, 17]: by length, the first code, how many, and where their symbols begin.
      symbols: uint8[n].
    """

    steps: npt.NDArray[np.uint16]
    codes: npt.NDArray[np.int32]
    symbols: npt.NDArray[np.uint8]


def dc_plane(body: bytes) -> npt.NDArray[np.uint8] | None:
    """The luma of a JPEG at an eighth of its size: uint8[ceil(height / 8), ceil(width / 8)].

    None where the file is not of the usual kind (baseline, one scan, no restart markers, grey or
    YCbCr) or has any fault at all.
    """
    frame = _frame(body)
    if frame is None:
        return None
    across, down = frame.sampling
    units = -(-frame.width // (8 * across)), -(-frame.height // (8 * down))
    out = np.empty((units[1] * down, units[0] * across), np.uint8)
    layout = np.array([*units, frame.quantum, frame.scan], np.int64)
    data = np.frombuffer(body, np.uint8)
    if not _decode(data, layout, frame.blocks, *_tables(frame.tables), out):
        return None
    return out[: -(-frame.height // 8), : -(-frame.width // 8)]


@lru_cache(maxsize=64)
def _tables(
    coded: tuple[tuple[bytes, int], ...],
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    """The tables of a frame in one: what `_table` gives of each, joined."""
    tables = [table for one in coded if (table := _table(*one))]
    symbols = np.zeros((len(tables), 256), np.uint8)
    for row, table in enumerate(tables):
        symbols[row, : len(table.symbols)] = table.symbols
    steps = np.concatenate([table.steps.ravel() for table in tables])
    return steps, np.stack([table.codes for table in tables]), symbols


def _segments(body: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, begin and end of its data) of each segment, to the first scan's header."""
    at, marker = 2, 0
    while marker != 0xDA and at + 4 <= len(body) and body[at] == 0xFF:
        marker = body[at + 1]
        end = at + 2 + int.from_bytes(body[at + 2 : at + 4], "big")
        yield marker, at + 4, end
        at = end


def _frame(body: bytes) -> _Frame | None:
    quanta: dict[int, int] = {}
    huffman: dict[int, bytes] = {}
    restarts, frame, whole = False, b"", True
    for marker, begin, end in _segments(body):
        data = body[begin:end]
        if marker == 0xDB:
            whole &= _read_quanta(data, quanta)
        elif marker == 0xC4:
            whole &= _read_huffman(data, huffman)
        elif marker == 0xDD:
            restarts = any(data)
        elif marker in (_BASELINE, _EXTENDED):
            frame = data
        elif marker in _OTHER_FRAMES or (
            marker == 0xEE and data[:5] == b"Adobe" and data[11:12] != b"\1"
        ):
            return None
        elif marker == 0xDA and end <= len(body) and whole and not restarts:
            return _joined(frame, data, quanta, huffman, end)
    return None


def _read_quanta(data: bytes, quanta: dict[int, int]) -> bool:
    at = 0
    while at < len(data):
        wide = data[at] >> 4
        quanta[data[at] & 15] = int.from_bytes(data[at + 1 : at + 2 + wide], "big")
        at += 1 + 64 * (1 + wide)
    return at == len(data)


def _read_huffman(data: bytes, huffman: dict[int, bytes]) -> bool:
    at = 0
    while at < len(data):
        size = 17 + sum(data[at + 1 : at + 17])
        huffman[data[at]] = data[at + 1 : at + size]
        at += size
    return at == len(data)


def _joined(
    frame: bytes,
    scan: bytes,
    quanta: dict[int, int],
    huffman: dict[int, bytes],
    begin_at: int,
) -> _Frame | None:
    """The frame, where it is a usual one."""
    count = frame[5] if len(frame) >= 6 else 0
    usual = count in (1, 3) and len(frame) == 6 + 3 * count and frame[0] == 8
    if not usual or scan[:1] != bytes([count]) or len(scan) != 4 + 2 * count:
        return None
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    blocks: list[tuple[int, ...]] = []
    tables: list[tuple[bytes, int]] = []
    for n in range(count):
        identity, sampling, quantum = frame[6 + 3 * n : 9 + 3 * n]
        chosen, rows = scan[1 + 2 * n : 3 + 2 * n]
        used = (rows >> 4, 0x10 | (rows & 15))
        known = chosen == identity and quantum in quanta and all(t in huffman for t in used)
        across, down = (sampling >> 4, sampling & 15) if count == 3 else (1, 1)
        if not known or across not in (1, 2) or down not in (1, 2):
            return None
        begin = [(len(tables) + place) << (_BITS + 1) for place in (0, 1)]
        tables += [(huffman[t], t >> 4) for t in used]
        blocks += [
            (n, *begin, row, down, column, across)
            for row in range(down)
            for column in range(across)
        ]
        first = blocks[0]
        if across > first[6] or down > first[4]:  # luma is the finest
            return None
    if not width * height or (count == 3 and frame[6] == 0x52):  # "R" of RGB
        return None
    if any(_table(*one) is None for one in tables):
        return None
    luma = (blocks[0][6], blocks[0][4])
    made = np.array(blocks, np.int64)
    return _Frame(width, height, luma, made, tuple(tables), quanta[frame[8]], begin_at)


@lru_cache(maxsize=256)  # 32 KB each; most encoders use the same ones
def _table(coded: bytes, other: int) -> _Table | None:
    """A Huffman table of first or of `other` coefficients, or None where it is none."""
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
    return _Table(_steps(codes, symbols, other), codes, symbols)


@njit(nogil=True, cache=True)
def _symbol(window, bits, codes, symbols):  # type: ignore[no-untyped-def]
    """The symbol that the first of some bits code, and its length; (0, 0) where there is none."""
    for length in range(1, min(bits, 16) + 1):
        code = (window >> (bits - length)) - codes[0, length]
        if 0 <= code < codes[1, length]:
            return symbols[codes[2, length] + code], length
    return 0, 0


@njit(nogil=True, cache=True)
def _steps(codes, symbols, other):  # type: ignore[no-untyped-def]
    steps = np.zeros((2, 1 << _BITS), np.uint16)
    for window in range(1 << _BITS):
        symbol, length = _symbol(window, _BITS, codes, symbols)
        if not other:
            if length and symbol < 12:
                steps[:, window] = length | (symbol << 4)
            continue
        used = passed = last = 0
        first = True
        while length and used + length + (symbol & 15) <= _BITS and not last:
            used += length + (symbol & 15)
            if symbol & 15:
                passed += 1 + (symbol >> 4)
            elif symbol == 0xF0:
                passed += 16
            elif symbol == 0:
                last = 1
            else:
                break
            step = used | (passed << 4) | (last << 12)
            if first:
                steps[0, window] = step
            steps[1, window] = step
            first = False
            left = _BITS - used
            symbol, length = _symbol(window & ((1 << left) - 1), left, codes, symbols)
    return steps


@njit(inline="always")
def _refilled(bits, acc, count, at):  # type: ignore[no-untyped-def]
    """At least 56 bits in the accumulator, without a branch."""
    eight = np.uint64(0)
    for place in range(8):
        eight |= np.uint64(bits[np.uint64(at + np.uint64(place))]) << np.uint64(56 - 8 * place)
    acc |= eight >> count
    at += (np.uint64(63) - count) >> np.uint64(3)
    return acc, count | np.uint64(56), at


@njit(nogil=True, cache=True)
def _unstuffed(data, at, out):  # type: ignore[no-untyped-def]
    """Copies coded bytes without the zeros that follow each 0xFF, up to a marker.

    Returns:
      (how many came out, where the marker is).
    """
    size, stop = np.int64(0), np.int64(len(data)) - 8
    ones, highs = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
    while True:
        while at < stop:
            eight = read8(data, at)
            # A byte of the complement is zero where there is an 0xFF.
            if (~eight - ones) & eight & highs:
                break
            for place in range(8):
                out[np.uint64(size + place)] = data[np.uint64(at + place)]
            size, at = size + 8, at + 8
        if at + 1 >= len(data):
            return size, at
        byte = data[np.uint64(at)]
        if byte == 0xFF:
            if data[np.uint64(at + 1)] != 0:
                return size, at
            at += 1
        out[np.uint64(size)] = byte
        size, at = size + 1, at + 1


@njit(inline="always")
def _slow(acc, codes, symbols, row):  # type: ignore[no-untyped-def]
    return _symbol(np.int64(acc >> np.uint64(48)), 16, codes[row], symbols[row])


@njit(nogil=True, cache=True)
def _other_step(acc, place, ac, steps, codes, symbols):  # type: ignore[no-untyped-def]
    """One symbol of other coefficients, where several would pass the block's end or none fits the
    look-up: (bits, place after it); 0 bits where there is none."""
    step = np.int64(steps[np.uint64(ac) | (acc >> np.uint64(64 - _BITS))])
    used, passed, last = step & 15, (step >> 4) & 255, step >> 12
    if step == 0:
        found, length = _slow(acc, codes, symbols, ac >> (_BITS + 1))
        symbol = np.int64(found)
        if length == 0 or (symbol & 15 == 0 and symbol != 0 and symbol != 0xF0):
            return 0, 0
        used, last = length + (symbol & 15), np.int64(symbol == 0)
        passed = np.int64(symbol != 0) * (1 + (symbol >> 4))
    if place + passed > 64:
        return 0, 0
    return used, 64 if last else place + passed


@njit(nogil=True, cache=True)
def _decode(data, layout, blocks, steps, codes, symbols, out):  # type: ignore  # noqa: C901
    """Fills the plane; False where anything is not as it should be."""
    units_across, units_down, quantum, at = layout
    bits = np.empty(len(data) - at + _SPARE, np.uint8)
    size, at = _unstuffed(data, at, bits)
    bits[size : size + _SPARE] = 0
    if at + 2 > len(data) or data[at + 1] != 0xD9:
        return False
    acc, count, place_in = np.uint64(0), np.uint64(0), np.uint64(0)
    before = np.zeros(3, np.int64)
    for unit in range(units_across * units_down):
        for block in range(len(blocks)):
            if place_in > size + 8:  # decoding what is not there
                return False
            component, dc, ac = blocks[block, 0], blocks[block, 1], np.uint64(blocks[block, 2])
            many = ac + np.uint64(1 << _BITS)
            acc, count, place_in = _refilled(bits, acc, count, place_in)
            step = np.int64(steps[np.uint64(dc) | (acc >> np.uint64(64 - _BITS))])
            length, width = step & 15, step >> 4
            if step == 0:
                found, length = _slow(acc, codes, symbols, dc >> (_BITS + 1))
                width = np.int64(found)
                if length == 0 or width > 11:
                    return False
            if width:
                value = np.int64((acc << np.uint64(length)) >> np.uint64(64 - width))
                negative = value < 1 << (width - 1)
                before[component] += value - negative * ((1 << width) - 1)
            acc <<= np.uint64(length + width)
            count -= np.uint64(length + width)
            if component == 0:
                row = unit // units_across * blocks[block, 4] + blocks[block, 3]
                column = unit % units_across * blocks[block, 6] + blocks[block, 5]
                sample = (before[0] * quantum + 4) >> 3
                if not -512 <= sample < 512:  # there libjpeg's own clamp goes round
                    return False
                out[row, column] = min(max(sample + 128, 0), 255)
            place = np.int64(1)
            while place < 64:
                acc, count, place_in = _refilled(bits, acc, count, place_in)
                for _ in range(56 // _BITS):
                    step = np.int64(steps[many | (acc >> np.uint64(64 - _BITS))])
                    used = step & 15
                    after = place + ((step >> 4) & 255)
                    usual = step != 0 and after <= 64 - (step >> 12)
                    if usual:
                        place = after + (step >> 12 << 6)
                    else:  # it may take 26 bits
                        acc, count, place_in = _refilled(bits, acc, count, place_in)
                        used, place = _other_step(acc, place, np.int64(ac), steps, codes, symbols)
                        if used == 0:
                            return False
                    acc <<= np.uint64(used)
                    count -= np.uint64(used)
                    if place >= 64 or not usual:
                        break
    # All came from the file, and nothing is left but padding to a whole byte.
    consumed = np.int64(place_in * np.uint64(8)) - np.int64(count)
    return 0 <= size * 8 - consumed < 8
