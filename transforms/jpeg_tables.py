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

LOOK_UP_BITS = 12  # of a look-up, 8 KB a table; 11 takes a sixth longer, 14 a tenth
MOST_BITS = 18  # that a look-up may step over: three of them are less than a refill
NO_STEP = 64 << 6  # the entry where there is none
_BASELINE, _EXTENDED = 0xC0, 0xC1
_OTHER_FRAMES = frozenset({0xC2, 0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)})


class Layout(NamedTuple):
    """What the decoder needs of a header, but for sizes and quanta.

    Attributes:
      sampling: blocks of luma across and down in a unit.
      unit: how many blocks a unit has, those of luma first.
      moves: uint64[4 * (unit + 1)], by block of a unit: where the steps of its other coefficients
        begin, and where those of the next block's first; its place in here, and that of the next.
        The last is a block that never ends.
      steps: uint16[(2 * tables + 1) << LOOK_UP_BITS], of first and other coefficients by turns:
        what the next bits step over. Bits, coefficients (from bit 6), and whether the last of them
        was the block's last (bit 13); NO_STEP where a code does not fit. Then zeros, for the block
        that never ends.
      codes: int32[2 * tables, 3, 17]: by length, the first code, how many, and where their symbols
        begin.
      symbols: uint8[2 * tables, 256].
      firsts: uint16[1 << LOOK_UP_BITS]: of the next bits, where luma's first coefficient is coded
        there, the code's length and (from bit 4) how many bits of a value follow it.
    """

    sampling: tuple[int, int]
    unit: int
    moves: npt.NDArray[np.uint64]
    steps: npt.NDArray[np.uint16]
    codes: npt.NDArray[np.int32]
    symbols: npt.NDArray[np.uint8]
    firsts: npt.NDArray[np.uint16]


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


@lru_cache(maxsize=32)  # 60 KB each; encoders that have no tables of their own share one
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
    samplings: list[tuple[int, int]] = []
    used: list[int] = []  # of each block of a unit
    for n in range(count):
        identity, sampling = frame[1 + 3 * n : 3 + 3 * n]
        chosen, rows = scan[1 + 2 * n : 3 + 2 * n]
        across, down = (sampling >> 4, sampling & 15) if count == 3 else (1, 1)
        if chosen != identity or across not in (1, 2) or down not in (1, 2):
            return None
        samplings.append((across, down))
        used += [rows] * (across * down)
        if across > samplings[0][0] or down > samplings[0][1]:  # luma is the finest
            return None
    pairs = list(dict.fromkeys(used))  # those of luma first
    made = [_tables(huffman.get(p >> 4, b""), huffman.get(0x10 | (p & 15), b"")) for p in pairs]
    tables = [table for pair in made if pair for table in pair]
    if len(tables) < 2 * len(pairs) or tables[0].codes[1, LOOK_UP_BITS + 1 :].any():
        return None
    begins = [2 * pairs.index(pair) << LOOK_UP_BITS for pair in used]
    moves = [
        (begins[n] + (1 << LOOK_UP_BITS), begins[after], 4 * n, 4 * after)
        for n, after in enumerate([*range(1, len(used)), 0])
    ]
    never, place = len(tables) << LOOK_UP_BITS, 4 * len(used)
    moves.append((never, never, place, place))
    steps = [*(table.steps for table in tables), np.zeros(1 << LOOK_UP_BITS, np.uint16)]
    codes = np.stack([table.codes for table in tables])
    symbols = np.stack([table.symbols for table in tables])
    return Layout(
        samplings[0],
        len(used),
        np.array(moves, np.uint64).ravel(),
        np.concatenate(steps),
        codes,
        symbols,
        _firsts(codes, symbols),
    )


class _Table(NamedTuple):
    """A Huffman table, as `Layout` has it."""

    steps: npt.NDArray[np.uint16]
    codes: npt.NDArray[np.int32]
    symbols: npt.NDArray[np.uint8]


@lru_cache(maxsize=64)  # 17 KB each; most encoders use the same ones
def _tables(first: bytes, other: bytes) -> tuple[_Table, _Table] | None:
    """The tables of first and of other coefficients, or None where one is none."""
    codes_of_first, codes_of_other = _codes(first, 11), _codes(other, 255)
    if codes_of_first is None or codes_of_other is None:
        return None
    first_steps, _ = _single_steps(*codes_of_first, False)
    other_steps, lengths = _single_steps(*codes_of_other, True)
    return (
        _Table(_steps(first_steps, other_steps, lengths), *codes_of_first),
        _Table(_steps(other_steps, other_steps, lengths), *codes_of_other),
    )


def _codes(coded: bytes, most: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]] | None:
    """`Layout.codes` and `.symbols` of a Huffman table; None where it is broken or has a symbol
    beyond `most`."""
    if len(coded) <= 16:
        return None
    counts, found = np.frombuffer(coded, np.uint8, 16), np.frombuffer(coded, np.uint8, offset=16)
    if len(found) != int(counts.sum()) or len(found) > 256 or max(found) > most:
        return None
    codes, symbols = np.zeros((3, 17), np.int32), np.zeros(256, np.uint8)
    symbols[: len(found)] = found
    code = place = 0
    for length, count in enumerate(counts.tolist(), 1):
        codes[:, length] = code, count, place
        code, place = code + count, place + count
        if code >= 1 << length:  # libjpeg takes no code of ones alone
            return None
        code <<= 1
    return codes, symbols


@njit(nogil=True, cache=True)
def first_symbol(window, bits, codes, symbols, row):  # type: ignore[no-untyped-def]
    """The symbol that the first of some bits code in this row's table, and its length; (0, 0) where
    there is none."""
    symbol, found = np.uint8(0), 0
    for length in range(1, min(bits, 16) + 1):
        code = (window >> (bits - length)) - codes[row, 0, length]
        if 0 <= code < codes[row, 1, length]:
            symbol, found = symbols[row, codes[row, 2, length] + code], length
            break
    return symbol, found


@njit(nogil=True, cache=True)
def _firsts(codes, symbols):  # type: ignore[no-untyped-def]
    """What `Layout.firsts` holds."""
    firsts = np.zeros(1 << LOOK_UP_BITS, np.uint16)
    for window in range(1 << LOOK_UP_BITS):
        symbol, length = first_symbol(window, LOOK_UP_BITS, codes, symbols, 0)
        firsts[window] = length | np.int64(symbol) << 4
    return firsts


@njit(nogil=True, cache=True)
def _single_steps(codes, symbols, other):  # type: ignore[no-untyped-def]
    """The step of one symbol, and the length of its code, for each of the next bits."""
    steps = np.full(1 << LOOK_UP_BITS, NO_STEP, np.uint16)
    lengths = np.full(1 << LOOK_UP_BITS, 16, np.uint8)
    for length in range(1, LOOK_UP_BITS + 1):
        for n in range(codes[1, length]):
            symbol = np.int64(symbols[codes[2, length] + n])
            used, zeros = length + (symbol & 15), symbol >> 4
            if used > MOST_BITS or (other and symbol & 15 == 0 and zeros not in (0, 15)):
                continue
            step = used | 128 << 6 if other and symbol == 0 else used | (1 + zeros) << 6
            begin = (codes[0, length] + n) << (LOOK_UP_BITS - length)
            end = begin + (1 << (LOOK_UP_BITS - length))
            steps[begin:end], lengths[begin:end] = step, length
    return steps, lengths


@njit(nogil=True, cache=True)
def _steps(first, others, lengths):  # type: ignore[no-untyped-def]
    """What `Layout.steps` holds: one symbol, and as many other ones behind it as are sure. Of the
    last only the code must be among the bits looked up."""
    steps = first.copy()
    for window in range(1 << LOOK_UP_BITS):
        step = np.int64(first[window])
        while step < NO_STEP:
            used = step & 63
            rest = (window << used) & ((1 << LOOK_UP_BITS) - 1)
            after = np.int64(others[rest])
            unsure = used + lengths[rest] > LOOK_UP_BITS
            passed = (step >> 6) + ((after >> 6) & 127)
            if unsure or used + (after & 63) > MOST_BITS or passed > 63:
                break
            step += after  # bits and coefficients add up, neither beyond its field
        steps[window] = step
    return steps
