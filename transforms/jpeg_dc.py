"""The grey plane of a usual JPEG at an eighth of its size, in two thirds of libjpeg's time.

At that size only the first coefficient of each block shows. libjpeg decodes the other 63 symbol by
symbol all the same; here a look-up steps over as many of them as 14 bits hold. Only what decodes
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

_BITS = 14  # a look-up, 32 KB a table; 12 and 15 take an eighth longer
_SPARE = 1024  # zeros behind the coded bytes: a block takes at most 210
_BASELINE, _EXTENDED = 0xC0, 0xC1
_OTHER_FRAMES = frozenset({0xC2, 0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)})


class _Layout(NamedTuple):
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


class _Table(NamedTuple):
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


def dc_plane(body: bytes) -> npt.NDArray[np.uint8] | None:
    """The luma of a JPEG at an eighth of its size: uint8[ceil(height / 8), ceil(width / 8)].

    None where the file is not of the usual kind (baseline, one scan, no restart markers, grey or
    YCbCr), has Huffman tables that were not met before, or has any fault at all.
    """
    header = _header(body)
    if header and not _has_met(header.huffman):
        return None
    layout = header and _layout(header.frame[5:], header.scan, header.huffman)
    if not header or not layout:
        return None
    height = int.from_bytes(header.frame[1:3], "big")
    width = int.from_bytes(header.frame[3:5], "big")
    quanta = _quanta(header.quanta)
    if header.frame[0] != 8 or not height * width or not quanta.keys() >= {*header.frame[8::3]}:
        return None
    quantum = quanta[header.frame[8]]
    across, down = layout.sampling
    units = -(-width // (8 * across)), -(-height // (8 * down))
    out = np.empty((units[1] * down, units[0] * across), np.uint8)
    sizes = np.array([*units, quantum, header.begin], np.int64)
    if not _decode(np.frombuffer(body, np.uint8), sizes, *layout[1:], out):
        return None
    return out[: -(-height // 8), : -(-width // 8)]


_MET: dict[int, None] = {}


def _has_met(coded: bytes) -> bool:
    """Whether these Huffman tables were met before. To prepare them takes 200 us: too long for a
    file with tables of its own, and nothing for the most of them, which have those of the standard.
    """
    name = hash(coded)
    if name in _MET:
        return True
    if len(_MET) >= 10_000:
        _MET.clear()
    _MET[name] = None
    return False


class _Header(NamedTuple):
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


def _header(body: bytes) -> _Header | None:
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
            return _Header(frame, body[begin:end], quanta, huffman, end) if usual else None
        elif _is_unusual(marker, body[begin:end]):
            return None
    return None


def _is_unusual(marker: int, data: bytes) -> bool:
    """Another kind of frame, restart markers, or other colours than YCbCr."""
    if marker in _OTHER_FRAMES or (marker == 0xDD and any(data)):
        return True
    return marker == 0xEE and data[:5] == b"Adobe" and data[11:12] != b"\1"


@lru_cache(maxsize=256)
def _quanta(data: bytes) -> dict[int, int]:
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
def _layout(frame: bytes, scan: bytes, coded: bytes) -> _Layout | None:
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
    tables: list[_Table] = []
    for n in range(count):
        identity, sampling = frame[1 + 3 * n : 3 + 3 * n]
        chosen, rows = scan[1 + 2 * n : 3 + 2 * n]
        used = (rows >> 4, 0x10 | (rows & 15))
        made = [_table(huffman.get(t, b""), t >> 4) for t in used]
        across, down = (sampling >> 4, sampling & 15) if count == 3 else (1, 1)
        if chosen != identity or across not in (1, 2) or down not in (1, 2):
            return None
        begin = [(len(tables) + place) << (_BITS + 1) for place in (0, 1)]
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
    return _Layout(sampling_of_luma, np.array(blocks, np.int64), steps, codes, symbols)


@lru_cache(maxsize=64)  # 64 KB each; most encoders use the same ones
def _table(coded: bytes, other: int) -> _Table | None:
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
    """What `_Table.steps` holds. Takes 40 us, which files with tables of their own pay for."""
    steps = np.zeros((2, 1 << _BITS), np.uint16)
    one, many = steps[0], steps[1]
    for length in range(1, _BITS + 1):
        for n in range(codes[1, length]):
            symbol = np.int64(symbols[codes[2, length] + n])
            used = length + (symbol & 15)
            if not other:
                step = length | (symbol << 4) if symbol < 12 else 0
            elif used > _BITS or (symbol & 15 == 0 and symbol != 0 and symbol != 0xF0):
                step = 0
            else:
                step = used | (1 + (symbol >> 4)) << 4 if symbol else used | 1 << 12
            begin = (codes[0, length] + n) << (_BITS - length)
            one[begin : begin + (1 << (_BITS - length))] = step
    if not other:
        many[:] = one
        return steps
    for window in range(1 << _BITS):
        step = np.int64(one[window])
        while step and not step >> 12:
            used = step & 15
            after = np.int64(one[np.uint64((window << used) & ((1 << _BITS) - 1))])
            if not after or used + (after & 15) > _BITS:
                break
            step += after  # bits and coefficients add up, neither beyond its field
        many[window] = step
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
def _decode(data, sizes, blocks, steps, codes, symbols, out):  # type: ignore  # noqa: C901
    """Fills the plane; False where anything is not as it should be."""
    units_across, units_down, quantum, at = sizes
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
