"""Two scans of JPEGs by turns: where in their bits each block begins.

A look-up steps over as many symbols as have their codes in the next 12 bits. Where the next look-up
begins is known only after the one before, so two files are decoded by turns, and the processor
overlaps them. It can't foretell where a block ends: there is no branch for that.

Source: ITU-T T.81, annex F (sequential Huffman coding).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from alignset.transforms.columns.hashing import read8
from alignset.transforms.columns.kernels import allocating_kernel
from alignset.transforms.images.jpeg_tables import LOOK_UP_BITS, NO_STEP, first_symbol

_SPARE = 1024  # zeros behind the coded bytes: a block takes at most 210
_STEPS_A_REFILL = 3  # of at most 18 bits
_NEVER = np.uint64(1 << 40)


class Scan(NamedTuple):
    """What `decode` takes.

    Fields:
      data: uint8[n], the file. begin: where its coded bytes begin. blocks: how many there are.
      moves, steps, codes, symbols: as in `jpeg_tables.Layout`.
      windows: uint32[blocks + 1], to be filled with the bits that each block begins with.
    """

    data: npt.NDArray[np.uint8]
    begin: int
    blocks: int
    moves: npt.NDArray[np.uint64]
    steps: npt.NDArray[np.uint16]
    codes: npt.NDArray[np.int32]
    symbols: npt.NDArray[np.uint8]
    windows: npt.NDArray[np.uint32]


class Lane(NamedTuple):
    """Where the decoder is in a scan; each a uint64.

    Fields:
      acc: the next bits, at the upper end.
      so_far: how many were used since there were `held`, and, from bit 6, the place in the block.
      held: how many bits `acc` had. at: the next byte.
      begun: how many blocks were begun. first: whether the next symbol is a block's first.
      table: for that symbol. move: the block's place in `moves`.
    """

    acc: np.uint64
    so_far: np.uint64
    held: np.uint64
    at: np.uint64
    begun: np.uint64
    first: np.uint64
    table: np.uint64
    move: np.uint64


@allocating_kernel
def _unstuffed(data, at, out):  # type: ignore[no-untyped-def]
    """Copies coded bytes without the zeros that follow each 0xFF, up to a marker.

    Returns:
      (how many came out, where the marker is).
    """
    size, stop = np.int64(0), np.int64(len(data)) - 8
    ones, highs = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
    while at < stop:
        eight = read8(data, at)
        for place in range(8):
            out[np.uint64(size + place)] = np.uint8(eight >> np.uint64(8 * place))
        # A byte of the complement is zero where there is an 0xFF.
        marks = (~eight - ones) & eight & highs
        if not marks:
            size, at = size + 8, at + 8
            continue
        below = (marks & (np.uint64(0) - marks)) - np.uint64(1)  # all bits up to that of the first
        before = np.int64(((below & ones) * ones) >> np.uint64(56)) - 1
        size, at = size + before + 1, at + before + 2
        if data[np.uint64(at - 1)] != 0:
            return size - 1, at - 2
    while at + 1 < len(data):
        out[np.uint64(size)] = data[np.uint64(at)]
        if data[np.uint64(at)] == 0xFF:
            if data[np.uint64(at + 1)] != 0:
                break
            at += 1
        size, at = size + 1, at + 1
    return size, at


@allocating_kernel
def _begun(scan):  # type: ignore[no-untyped-def]
    """The scan's bytes with zeros behind them; how many there are, or -1 where no end follows; its
    lane, and the block at which that stops."""
    data = scan.data
    bits = np.empty(len(data) - scan.begin + _SPARE, np.uint8)
    size, at = _unstuffed(data, scan.begin, bits)
    bits[size : size + _SPARE] = 0
    if at + 2 > len(data) or data[at + 1] != 0xD9:
        return bits, -1, _never_ending(scan.blocks, scan.moves), _NEVER
    none, first = np.uint64(0), np.uint64(1)
    lane = Lane(none, none, none, none, none, first, none, none)
    return bits, size, lane, np.uint64(scan.blocks)


@allocating_kernel
def _never_ending(blocks, moves):  # type: ignore[no-untyped-def]
    """A lane that goes on for ever and does nothing."""
    none, place = np.uint64(0), np.uint64(len(moves) - 4)
    return Lane(none, none, none, none, np.uint64(blocks), none, moves[place], place)


@njit(inline="always")
def _refilled(bits, acc, so_far, count, at):  # type: ignore[no-untyped-def]
    """At least 56 bits in the accumulator, without a branch.

    Args:
      so_far: in its 6 lowest bits how many of `count` were used.
    """
    count -= so_far & np.uint64(63)
    eight = np.uint64(0)
    for place in range(8):
        eight |= np.uint64(bits[np.uint64(at + np.uint64(place))]) << np.uint64(56 - 8 * place)
    acc |= eight >> count
    at += (np.uint64(63) - count) >> np.uint64(3)
    return acc, so_far & ~np.uint64(63), count | np.uint64(56), at


@njit(inline="always")
def _stepped(acc, so_far, after, move, moves):  # type: ignore[no-untyped-def]
    """What is left, where in the block, whether at its end, the next table and place in `moves`."""
    last = after >> np.uint64(13)
    acc <<= (after - so_far) & np.uint64(63)
    so_far = after & ((last - np.uint64(1)) | np.uint64(63))
    move += last
    return acc, so_far, last, moves[move], moves[move + np.uint64(2)]


@allocating_kernel
def _passed(symbol, length, place):  # type: ignore[no-untyped-def]
    """(bits, the place in the block after it) of a symbol; 0 bits where it can't stand there."""
    size, zeros = symbol & 15, symbol >> 4
    if place == 0:
        return length + size, 1
    if size == 0 and zeros != 15:
        return length if zeros == 0 else 0, 64
    after = place + zeros + 1
    return length + size if after <= 64 else 0, after


@allocating_kernel
def _after_one_symbol(lane, stop, bits, size, moves, codes, symbols, windows):  # type: ignore  # noqa: PLR0913
    """A lane after one more symbol, whatever that is; where it stops; whether all is well so far.

    Where the scan ends, or there is no symbol, it is a lane that never ends. One return, and no
    slices: numba would count references.
    """
    acc, so_far, count, at, begun, first, table, move = lane
    acc, so_far, count, at = _refilled(bits, acc, so_far, count, at)
    windows[begun] = acc >> np.uint64(32)
    row, place = table >> np.uint64(LOOK_UP_BITS), np.int64(so_far >> np.uint64(6))
    symbol, length = first_symbol(np.int64(acc >> np.uint64(48)), 16, codes, symbols, row)
    used, place = _passed(np.int64(symbol), length, place)
    acc, count, begun = acc << np.uint64(used), count - np.uint64(used), begun + first
    first = np.uint64(place == 64)
    so_far, move = np.uint64(place & 63) << np.uint64(6), move + first
    lane = Lane(acc, so_far, count, at, begun, first, moves[move], moves[move + np.uint64(2)])
    left = size * 8 - np.int64(at * np.uint64(8)) + np.int64(count)
    good = used > 0 and left > -128  # else decoding what is not there
    if not good or (first and begun == stop):
        # All came from the file, and nothing is left but padding to a whole byte.
        good = good and 0 <= left < 8
        lane, stop = _never_ending(begun, moves), _NEVER
    return lane, stop, good


@allocating_kernel
def decode(a, b):  # type: ignore
    """Fills the windows of two scans; whether each is as it should be."""
    moves_a, steps_a, windows_a = a.moves, a.steps, a.windows
    moves_b, steps_b, windows_b = b.moves, b.steps, b.windows
    bits_a, size_a, lane_a, stop_a = _begun(a)
    bits_b, size_b, lane_b, stop_b = _begun(b)
    good_a, good_b = size_a >= 0, size_b >= 0
    end_a, end_b = np.uint64(size_a + 8), np.uint64(size_b + 8)
    shift, most = np.uint64(64 - LOOK_UP_BITS), np.uint64(_STEPS_A_REFILL + 1)
    while True:
        if stop_a < _NEVER:
            lane_a, stop_a, good_a = _after_one_symbol(
                lane_a, stop_a, bits_a, size_a, moves_a, a.codes, a.symbols, windows_a
            )
        if stop_b < _NEVER:
            lane_b, stop_b, good_b = _after_one_symbol(
                lane_b, stop_b, bits_b, size_b, moves_b, b.codes, b.symbols, windows_b
            )
        if stop_a == stop_b == _NEVER:
            return good_a, good_b
        acc_a, so_far_a, count_a, at_a, begun_a, first_a, table_a, move_a = lane_a
        acc_b, so_far_b, count_b, at_b, begun_b, first_b, table_b, move_b = lane_b
        usual = True
        while usual and begun_a + most <= stop_a and begun_b + most <= stop_b:
            if at_a > end_a or at_b > end_b:
                break
            acc_a, so_far_a, count_a, at_a = _refilled(bits_a, acc_a, so_far_a, count_a, at_a)
            acc_b, so_far_b, count_b, at_b = _refilled(bits_b, acc_b, so_far_b, count_b, at_b)
            for _ in range(_STEPS_A_REFILL):
                after_a = so_far_a + np.uint64(steps_a[table_a | (acc_a >> shift)])
                after_b = so_far_b + np.uint64(steps_b[table_b | (acc_b >> shift)])
                if (after_a | after_b) & np.uint64(NO_STEP):
                    usual = False
                    break
                windows_a[begun_a] = acc_a >> np.uint64(32)
                windows_b[begun_b] = acc_b >> np.uint64(32)
                begun_a += first_a
                begun_b += first_b
                acc_a, so_far_a, first_a, table_a, move_a = _stepped(
                    acc_a, so_far_a, after_a, move_a, moves_a
                )
                acc_b, so_far_b, first_b, table_b, move_b = _stepped(
                    acc_b, so_far_b, after_b, move_b, moves_b
                )
        lane_a = Lane(acc_a, so_far_a, count_a, at_a, begun_a, first_a, table_a, move_a)
        lane_b = Lane(acc_b, so_far_b, count_b, at_b, begun_b, first_b, table_b, move_b)


NO_SCAN = Scan(
    data=np.frombuffer(bytes(2), np.uint8),
    begin=2,
    blocks=0,
    moves=np.zeros(4, np.uint64),
    steps=np.zeros(1 << LOOK_UP_BITS, np.uint16),
    codes=np.zeros((1, 3, 17), np.int32),
    symbols=np.zeros((1, 256), np.uint8),
    windows=np.zeros(1, np.uint32),
)
