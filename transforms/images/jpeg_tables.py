"""What the header of a usual JPEG says to a decoder: its layout, and tables that step over symbols.

A header is taken only where it is known whole: no segment but those below, each as long as it says
and valid to the last byte, and the Huffman tables of the standard, which encoders use that make
none of their own. Another decoder then sees the same picture in it.

Source: ITU-T T.81, annexes B (markers), C and F (Huffman coding), K (its tables).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from transforms.columns.kernels import allocating_kernel
from transforms.images.jpeg_segments import jpeg_segments

LOOK_UP_BITS = 12  # of a look-up, 8 KB a table; 11 takes a sixth longer, 14 a tenth
MOST_BITS = 18  # that a look-up may step over: three of them are less than a refill
NO_STEP = 64 << 6  # the entry where there is none
_MOST_SEGMENTS, _MOST_BYTES = 64, 1 << 16  # of a header
_MOST_BLOCKS = 10  # of a unit
_SKIPPED = frozenset({*range(0xE0, 0xF0), 0xFE})  # APPn, COM
_DHT, _DQT, _DRI, _SOF0, _APP0, _APP2, _APP14 = 0xC4, 0xDB, 0xDD, 0xC0, 0xE0, 0xE2, 0xEE
_PROFILE = b"ICC_PROFILE\0"


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
    """What a usual header says.

    Attributes:
      width, height: px.
      samplings: blocks across and down in a unit, of each component, luma first.
      quantum: what the first coefficients of luma are multiplied by.
      begin: where in the file the coded data begin.
    """

    width: int
    height: int
    samplings: tuple[tuple[int, int], ...]
    quantum: int
    begin: int


def read_header(body: bytes) -> Header | None:
    """The header of a JPEG that is known whole; None of any other."""
    segments = jpeg_segments(body)
    _, begin, end = segments.each[-1] if segments.usual else (0, 0, _MOST_BYTES + 1)
    if end > _MOST_BYTES or len(segments.each) > _MOST_SEGMENTS:
        return None
    frame: bytes | None = None
    quanta: dict[int, int] = {}
    huffman: set[int] = set()
    for marker, start, stop in segments.each[:-1]:
        data = body[start:stop]
        if marker == _DHT:
            taken = _add_huffman(data, huffman)
        elif marker == _DQT:
            taken = _add_quanta(data, quanta)
        elif marker == _SOF0:
            taken, frame = frame is None and len(data) > 5, data
        elif marker == _DRI:  # no restart markers in the scan
            taken = data == b"\0\0"
        else:
            taken = marker in _SKIPPED and _is_silent(marker, data)
        if not taken:
            return None
    if frame is None or frame[0] != 8 or body.count(_PROFILE, 2, begin) > 1:
        return None
    samplings = _samplings(frame[5:21], body[begin : min(end, begin + 12)])
    used = _STANDARD.keys() if len(samplings) > 1 else {0x00, 0x10}
    if not samplings or not huffman >= used or not quanta.keys() >= {*frame[8::3]}:
        return None
    height, width = frame[1] << 8 | frame[2], frame[3] << 8 | frame[4]
    return Header(width, height, samplings, quanta[frame[8]], end)


def _is_silent(marker: int, data: bytes) -> bool:
    """Whether libjpeg neither warns of a segment that it does not need nor goes by it."""
    if marker == _APP0 and data[:5] == b"JFIF\0":
        return data[5] == 1  # its major version
    if marker == _APP2 and data[:12] == _PROFILE:
        return data[12:14] == b"\1\1"  # the first of one
    return marker != _APP14 or data[:5] != b"Adobe" or data[11] == 1  # else no YCbCr


def _add_quanta(data: bytes, quanta: dict[int, int]) -> bool:
    """Adds the first number of each table of a DQT; False where it is broken."""
    at = 0
    while at < len(data):
        wide, number = data[at] >> 4, data[at] & 15
        if wide > 1 or number > 3:
            return False
        quanta[number] = int.from_bytes(data[at + 1 : at + 2 + wide], "big")
        at += 1 + 64 * (1 + wide)
    return at == len(data)


def _add_huffman(data: bytes, huffman: set[int]) -> bool:
    """Adds the numbers of the tables of a DHT, which are the standard's; False where one is not."""
    at = 0
    while at < len(data):
        table = _STANDARD.get(data[at], b"")
        if not table or not data.startswith(table, at + 1):
            return False
        huffman.add(data[at])
        at += 1 + len(table)
    return True


@lru_cache(maxsize=256)
def _samplings(components: bytes, scan: bytes) -> tuple[tuple[int, int], ...]:
    """Blocks across and down in a unit of each component; empty where the frame's components, their
    count first, and the scan are not as usual."""
    count = components[0]
    if count not in (1, 3) or len(components) != 1 + 3 * count:
        return ()
    names = components[1::3]
    # "R" of RGB; a scan of all, in order, of all coefficients.
    chosen = b"".join(bytes((name, 0x11 if n else 0)) for n, name in enumerate(names))
    if names[0] == 0x52 or len({*names}) < count or scan != bytes((count,)) + chosen + b"\0\x3f\0":
        return ()
    samplings = tuple((sampling >> 4, sampling & 15) for sampling in components[2::3])
    across, down = samplings[0]
    if any(not 1 <= a <= across <= 2 or not 1 <= b <= down <= 2 for a, b in samplings):
        return ()  # luma is the finest
    if sum(a * b for a, b in samplings) > _MOST_BLOCKS:
        return ()
    return samplings if count == 3 else ((1, 1),)


def _standard(lengths: str, symbols: str) -> bytes:
    return bytes.fromhex(lengths) + bytes.fromhex(symbols)


_SYMBOLS_OF_FIRST = "000102030405060708090a0b"
# By class and number, as in a file: how many codes of each length, and their symbols.
_STANDARD = {
    0x00: _standard("00010501010101010100000000000000", _SYMBOLS_OF_FIRST),
    0x01: _standard("00030101010101010101010000000000", _SYMBOLS_OF_FIRST),
    0x10: _standard(
        "0002010303020403050504040000017d",
        "01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282090a161718191a"
        "25262728292a3435363738393a434445464748494a535455565758595a636465666768696a73747576777879"
        "7a838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9"
        "cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9fa",
    ),
    0x11: _standard(
        "00020102040403040705040400010277",
        "000102031104052131061241510761711322328108144291a1b1c109233352f0156272d10a162434e125f117"
        "18191a262728292a35363738393a434445464748494a535455565758595a636465666768696a737475767778"
        "797a82838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7"
        "c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8f9fa",
    ),
}


@lru_cache(maxsize=64)  # there are 82 kinds of samplings, 60 KB each
def layout_of(samplings: tuple[tuple[int, int], ...]) -> Layout:
    """How a scan is laid out, by the samplings of its components (`Header.samplings`)."""
    used = [n for n, (across, down) in enumerate(samplings) for _ in range(across * down)]
    pairs = [min(n, 1) for n in used]  # luma's tables, or those of both chroma
    tables = [table for n in range(max(pairs) + 1) for table in _tables(n)]
    begins = [2 * pair << LOOK_UP_BITS for pair in pairs]
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


@lru_cache(maxsize=2)
def _tables(number: int) -> tuple[_Table, _Table]:
    """The standard's tables of first and of other coefficients, of luma (0) or chroma (1)."""
    return step_tables(_STANDARD[number], _STANDARD[0x10 | number])


def step_tables(first: bytes, other: bytes) -> tuple[_Table, _Table]:
    """The tables of first and of other coefficients, each as in a file."""
    first_codes, other_codes = _codes(first), _codes(other)
    first_steps, _ = _single_steps(*first_codes, False)
    other_steps, lengths = _single_steps(*other_codes, True)
    return (
        _Table(_steps(first_steps, other_steps, lengths), *first_codes),
        _Table(_steps(other_steps, other_steps, lengths), *other_codes),
    )


def _codes(coded: bytes) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    """`Layout.codes` and `.symbols` of a Huffman table."""
    codes, symbols = np.zeros((3, 17), np.int32), np.zeros(256, np.uint8)
    symbols[: len(coded) - 16] = np.frombuffer(coded, np.uint8, offset=16)
    code = place = 0
    for length, count in enumerate(coded[:16], 1):
        codes[:, length] = code, count, place
        code, place = (code + count) << 1, place + count
    return codes, symbols


@allocating_kernel
def first_symbol(window, bits, codes, symbols, row):  # type: ignore[no-untyped-def]
    """The symbol that the first of some bits code in this row's table, and its length; (0, 0) where
    there is none."""
    symbol, used = np.uint8(0), 0
    for length in range(1, min(bits, 16) + 1):
        code = (window >> (bits - length)) - codes[row, 0, length]
        if 0 <= code < codes[row, 1, length]:
            symbol, used = symbols[row, codes[row, 2, length] + code], length
            break
    return symbol, used


@allocating_kernel
def _firsts(codes, symbols):  # type: ignore[no-untyped-def]
    """What `Layout.firsts` holds."""
    firsts = np.zeros(1 << LOOK_UP_BITS, np.uint16)
    for window in range(1 << LOOK_UP_BITS):
        symbol, length = first_symbol(window, LOOK_UP_BITS, codes, symbols, 0)
        firsts[window] = length | np.int64(symbol) << 4
    return firsts


@allocating_kernel
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


@allocating_kernel
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
