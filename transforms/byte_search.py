"""What kernels seek in bytes: words, and the ends of lines and strings, eight bytes at a time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from transforms.hashing import kernel, read8

MARGIN = 128  # bytes that must lie behind the data, so that words may be sought at its very end
# What there is in a JSON string that stands for something else.
ESCAPED, ENTITY = 1, 2
_ONES, _HIGHEST = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
_BLANKS = np.uint64(0x2020202020202020)


def word(text: bytes) -> npt.NDArray[np.uint8]:
    """A word as kernels take it."""
    return np.frombuffer(text, np.uint8)


@njit(inline="always")
def is_byte(eight, byte):  # type: ignore[no-untyped-def]
    """Marks by its highest bit each of eight bytes that is this one: the lowest mark is right, and
    above it others may be marked too."""
    # A byte less its own ones borrows where it was 0.
    lane = eight ^ (np.uint64(byte) * _ONES)
    return (lane - _ONES) & ~lane & _HIGHEST


@njit(inline="always")
def lowest_byte(marks):  # type: ignore[no-untyped-def]
    """Which of eight bytes is the lowest that is marked."""
    lowest = (marks & (np.uint64(0) - marks)) >> np.uint64(7)
    return np.int64((lowest * np.uint64(0x0001020304050607)) >> np.uint64(56))


@kernel
def is_at(data, at, word):  # type: ignore[no-untyped-def]
    """Whether a word stands there."""
    same = True
    for place in range(len(word)):
        same &= data[at + place] == word[place]
    return same


@kernel
def is_name(data, at, stop, word):  # type: ignore[no-untyped-def]
    """Whether `data[at:stop]` is a word of lower case, in letters of any case."""
    same = stop - at == len(word)
    for place in range(len(word)):
        same &= (data[at + place] | 32) == word[place]
    return same


@kernel
def find(data, at, stop, word, other):  # type: ignore[no-untyped-def]
    """Where the first of two words begins in `data[at:stop]`, or `stop`; 20 GB/s."""
    a, b, c, d = word[0], word[5], other[0], other[5]
    while at < stop:
        least, block = np.uint8(255), data[at : at + 69]
        for place in range(64):  # in a form that compiles to vector instructions
            x, y = block[place], block[place + 5]
            least = min(least, np.uint8((x ^ a) | (y ^ b)), np.uint8((x ^ c) | (y ^ d)))
        if least == 0:
            for place in range(at, at + 64, 8):
                x, y = read8(data, place), read8(data, place + 5)
                marks = (is_byte(x, a) & is_byte(y, b)) | (is_byte(x, c) & is_byte(y, d))
                while marks:
                    found = place + lowest_byte(marks)
                    if is_at(data, found, word) or is_at(data, found, other):
                        return min(found, stop)
                    marks &= marks - np.uint64(1)
        at += 64
    return stop


@kernel
def after_line(data, at, stop):  # type: ignore[no-untyped-def]
    """Where the next line begins; -1 where the line has no end of two bytes."""
    marks = is_byte(read8(data, at), ord("\n"))
    while not marks and at < stop - 8:
        at += 8
        marks = is_byte(read8(data, at), ord("\n"))
    at += lowest_byte(marks)
    return at + 1 if marks and at < stop and data[at - 1] == ord("\r") else -1


@kernel
def number(data, at, stop):  # type: ignore[no-untyped-def]
    """A decimal number of up to nine digits, or -1."""
    value = 0
    for place in range(at, stop):
        if data[place] < ord("0") or data[place] > ord("9") or stop - at > 9:
            return -1
        value = 10 * value + data[place] - ord("0")
    return value


@kernel
def string_end(data, at, stop):  # type: ignore[no-untyped-def]
    """Where the quotation mark is that ends a string, and what is in the string; or -1."""
    seen = 0
    while at < stop:
        eight = read8(data, at)
        marks = is_byte(eight, ord('"')) | is_byte(eight, ord("\\")) | is_byte(eight, ord("&"))
        marks |= (eight - _BLANKS) & ~eight & _HIGHEST  # below a blank
        if not marks:
            at += 8
            continue
        at += lowest_byte(marks)
        c = data[at]
        if c == ord('"') and at < stop:
            return at, seen
        if c < ord(" "):
            break
        seen |= ENTITY if c == ord("&") else ESCAPED
        at += 1 if c == ord("&") else 2
    return -1, 1
