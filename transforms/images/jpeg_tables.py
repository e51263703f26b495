"""How the coded data of a usual JPEG are laid out, and tables that step over their symbols.

Source: ITU-T T.81, annexes C and F (Huffman coding), K (its tables).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from alignset.transforms.columns.kernels import allocating_kernel

LOOK_UP_BITS = 12  # of a look-up, 8 KB a table; 11 takes a sixth longer, 14 a tenth
MOST_BITS = 18  # that a look-up may step over: three of them are less than a refill
NO_STEP = 64 << 6  # the entry where there is none


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


def _standard(lengths: str, symbols: str) -> bytes:
    return bytes.fromhex(lengths) + bytes.fromhex(symbols)


_SYMBOLS_OF_FIRST = "000102030405060708090a0b"
# By class and number, as in a file: how many codes of each length, and their symbols.
STANDARD = {
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
    """How a scan is laid out, by the samplings of its components (`usual_headers.Header`)."""
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
    return step_tables(STANDARD[number], STANDARD[0x10 | number])


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
