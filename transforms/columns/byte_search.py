"""Byte searches of kernels: words, and the ends of lines and strings, eight bytes at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from alignset.transforms.columns.hashing import read8
from alignset.transforms.columns.kernels import kernel

MARGIN = 128  # bytes that must lie behind the data, so that words may be sought at its very end
# What there is in a JSON string that stands for something else.
ESCAPED, ENTITY = 1, 2
_ONES, _HIGHEST = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
_BLANKS = np.uint64(0x2020202020202020)


def word(text: bytes) -> npt.NDArray[np.uint8]:
    """A word as kernels take it."""
    return np.frombuffer(text, np.uint8)


class Words(NamedTuple):
    """Some words, to be found in letters of any case.

    Fields:
      table: uint8[words, longest]: their bytes, each with the bit of lower case.
      sizes: int64[words]: in bytes.
    """

    table: npt.NDArray[np.uint8]
    sizes: npt.NDArray[np.int64]


def words(texts: Sequence[str], longest: int | None = None) -> Words:
    """Make words as kernels take them, the beginnings of those that are too long."""
    rows = [np.frombuffer(text.encode()[:longest], np.uint8) | 32 for text in texts]
    sizes = np.array([len(row) for row in rows], np.int64)
    table = np.zeros((len(rows), max(sizes, default=0)), np.uint8)
    for row, letters in zip(table, rows, strict=True):
        row[: len(letters)] = letters
    return Words(table, sizes)


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
    if stop - at != len(word):
        return False
    same = True
    for place in range(len(word)):
        same &= (data[at + place] | 32) == word[place]
    return same


@kernel
def find(data, at, stop, word, other):  # type: ignore[no-untyped-def]
    """Where the first of two words begins in `data[at:stop]`, or `stop`; 20 GB/s.

    The search compares their first bytes and their sixth, or the fifth of shorter words.
    """
    near, far = min(5, len(word) - 1), min(5, len(other) - 1)
    a, b, c, d = word[0], word[near], other[0], other[far]
    while at < stop:
        least, first = np.uint8(255), data[at : at + 64]
        ys, zs = data[at + near : at + near + 64], data[at + far : at + far + 64]
        for place in range(64):  # in a form that compiles to vector instructions
            x = first[place]
            least = min(least, np.uint8((x ^ a) | (ys[place] ^ b)))
            least = min(least, np.uint8((x ^ c) | (zs[place] ^ d)))
        if least == 0:
            for place in range(at, at + 64, 8):
                x, y, z = read8(data, place), read8(data, place + near), read8(data, place + far)
                marks = (is_byte(x, a) & is_byte(y, b)) | (is_byte(x, c) & is_byte(z, d))
                while marks:
                    hit = place + lowest_byte(marks)
                    if is_at(data, hit, word) or is_at(data, hit, other):
                        return min(hit, stop)
                    marks &= marks - np.uint64(1)
        at += 64
    return stop


@kernel
def has_needless_escapes(data, at, stop):  # type: ignore[no-untyped-def]
    r"""Whether JSON in `data[at:stop]` writes what may be a sign of ASCII as one of `\u0020` to
    `\u007f`, or a slash as `\/`, except in `<\/`; at 20 GB/s. True for some other things."""
    while at < stop:
        least, block = np.uint8(255), data[at : at + 64]
        for place in range(64):
            least = min(least, np.uint8(block[place] ^ np.uint8(ord("\\"))))
        if least == 0:
            for start in range(at, min(at + 64, stop), 8):
                marks = is_byte(read8(data, start), ord("\\"))
                while marks:
                    place = start + lowest_byte(marks)
                    marks &= marks - np.uint64(1)
                    if data[place] != ord("\\") or place >= stop:
                        continue
                    c = data[place + 1]
                    if c == ord("/") and data[place - 1] != ord("<"):
                        return True
                    zeros = c == ord("u") and data[place + 2] == data[place + 3] == ord("0")
                    if zeros and data[place + 4] >= ord("2") and data[place + 4] <= ord("7"):
                        return True
        at += 64
    return False


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
    value = np.int64(0)
    for place in range(at, stop):
        if data[place] < ord("0") or data[place] > ord("9") or stop - at > 9:
            return -1
        value = 10 * value + np.int64(data[place]) - ord("0")
    return value


@kernel
def string_end(data, at, stop):  # type: ignore[no-untyped-def]
    """Where the quotation mark is that ends a string, and what is in the string; or -1."""
    contents = 0
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
            return at, contents
        if c < ord(" "):
            break
        contents |= ENTITY if c == ord("&") else ESCAPED
        at += 1 if c == ord("&") else 2
    return -1, 1
