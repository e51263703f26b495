"""The grey plane of a usual JPEG at an eighth of its size, in two thirds of libjpeg's time.

At that size only the first coefficient of each block shows. libjpeg decodes the other 63 symbol by
symbol all the same; here a look-up steps over as many of them as 14 bits hold. Only what decodes
without the least fault is given back, to the last bit before the end marker: of all else libjpeg
must tell. Samples equal libjpeg's.

Source: ITU-T T.81, annexes B (markers) and F (sequential Huffman coding).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from transforms.hashing import read8
from transforms.jpeg_tables import LOOK_UP_BITS, first_symbol, layout_of, quanta_of, read_header

_SPARE = 1024  # zeros behind the coded bytes: a block takes at most 210


def dc_plane(body: bytes) -> npt.NDArray[np.uint8] | None:
    """The luma of a JPEG at an eighth of its size: uint8[ceil(height / 8), ceil(width / 8)].

    None where the file is not of the usual kind (baseline, one scan, no restart markers, grey or
    YCbCr), has Huffman tables that were not met before, or has any fault at all.
    """
    header = read_header(body)
    if header and not _has_met(header.huffman):
        return None
    layout = header and layout_of(header.frame[5:], header.scan, header.huffman)
    if not header or not layout:
        return None
    height = int.from_bytes(header.frame[1:3], "big")
    width = int.from_bytes(header.frame[3:5], "big")
    quanta = quanta_of(header.quanta)
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
    return first_symbol(np.int64(acc >> np.uint64(48)), 16, codes[row], symbols[row])


@njit(nogil=True, cache=True)
def _other_step(acc, place, ac, steps, codes, symbols):  # type: ignore[no-untyped-def]
    """One symbol of other coefficients, where several would pass the block's end or none fits the
    look-up: (bits, place after it); 0 bits where there is none."""
    step = np.int64(steps[np.uint64(ac) | (acc >> np.uint64(64 - LOOK_UP_BITS))])
    used, passed, last = step & 15, (step >> 4) & 255, step >> 12
    if step == 0:
        found, length = _slow(acc, codes, symbols, ac >> (LOOK_UP_BITS + 1))
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
            many = ac + np.uint64(1 << LOOK_UP_BITS)
            acc, count, place_in = _refilled(bits, acc, count, place_in)
            step = np.int64(steps[np.uint64(dc) | (acc >> np.uint64(64 - LOOK_UP_BITS))])
            length, width = step & 15, step >> 4
            if step == 0:
                found, length = _slow(acc, codes, symbols, dc >> (LOOK_UP_BITS + 1))
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
                for _ in range(56 // LOOK_UP_BITS):
                    step = np.int64(steps[many | (acc >> np.uint64(64 - LOOK_UP_BITS))])
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
