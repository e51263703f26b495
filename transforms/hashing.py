"""One stable 64-bit hash (XXH64, seed 0) for texts, URLs and n-grams, and sets of such hashes.

The hash is written here as a numba kernel because it must run inside other kernels without the
interpreter's lock; tests hold it against the `xxhash` package.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

UInt64s = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]

_P1 = np.uint64(0x9E3779B185EBCA87)
_P2 = np.uint64(0xC2B2AE3D27D4EB4F)
_P3 = np.uint64(0x165667B19E3779F9)
_P4 = np.uint64(0x85EBCA77C2B2AE63)
_P5 = np.uint64(0x27D4EB2F165667C5)


@njit(inline="always")
def _rotl(x, r):  # type: ignore[no-untyped-def]
    return (x << np.uint64(r)) | (x >> np.uint64(64 - r))


@njit(inline="always")
def _read(data, at, width):  # type: ignore[no-untyped-def]
    word = np.uint64(0)
    for i in range(width):
        word |= np.uint64(data[at + i]) << np.uint64(8 * i)
    return word


@njit(inline="always")
def _round(acc, lane):  # type: ignore[no-untyped-def]
    return _rotl(acc + lane * _P2, 31) * _P1


@njit(inline="always")
def _avalanche(h):  # type: ignore[no-untyped-def]
    h = (h ^ (h >> np.uint64(33))) * _P2
    h = (h ^ (h >> np.uint64(29))) * _P3
    return h ^ (h >> np.uint64(32))


@njit(nogil=True, cache=True)
def xxh64(data, start, stop):  # type: ignore[no-untyped-def]
    """XXH64 with seed 0 of `data[start:stop]`; data: uint8[n]. For use inside kernels."""
    size = stop - start
    at = start
    if size >= 32:
        a, b, c, d = _P1 + _P2, _P2, np.uint64(0), np.uint64(0) - _P1
        while at + 32 <= stop:
            a = _round(a, _read(data, at, 8))
            b = _round(b, _read(data, at + 8, 8))
            c = _round(c, _read(data, at + 16, 8))
            d = _round(d, _read(data, at + 24, 8))
            at += 32
        h = _rotl(a, 1) + _rotl(b, 7) + _rotl(c, 12) + _rotl(d, 18)
        for lane in (a, b, c, d):
            h = (h ^ _round(np.uint64(0), lane)) * _P1 + _P4
    else:
        h = _P5
    h += np.uint64(size)
    while at + 8 <= stop:
        h = _rotl(h ^ _round(np.uint64(0), _read(data, at, 8)), 27) * _P1 + _P4
        at += 8
    if at + 4 <= stop:
        h = _rotl(h ^ (_read(data, at, 4) * _P1), 23) * _P2 + _P3
        at += 4
    while at < stop:
        h = _rotl(h ^ (np.uint64(data[at]) * _P5), 11) * _P1
        at += 1
    return _avalanche(h)


@njit(nogil=True, cache=True)
def _hash_rows(data, offsets, hashes):  # type: ignore[no-untyped-def]
    for row in range(len(hashes)):
        hashes[row] = xxh64(data, offsets[row], offsets[row + 1])


@njit(nogil=True, cache=True)
def _mix(first, second, mixed):  # type: ignore[no-untyped-def]
    """XXH64 of the 16 bytes of two little-endian words: its loop for 8-byte lanes, twice."""
    for row in range(len(mixed)):
        h = _P5 + np.uint64(16)
        h = _rotl(h ^ _round(np.uint64(0), first[row]), 27) * _P1 + _P4
        h = _rotl(h ^ _round(np.uint64(0), second[row]), 27) * _P1 + _P4
        mixed[row] = _avalanche(h)


def string_buffers(column: pa.StringArray) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """The bytes (uint8) and the row offsets (int32[n + 1]) behind a string column, not copied."""
    _, offsets, data = column.buffers()
    if offsets is None or len(column) == 0:
        return np.zeros(0, np.uint8), np.zeros(1, np.int32)
    rows = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    text = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    return text, rows


def string_hashes(column: pa.StringArray) -> UInt64s:
    """XXH64 (seed 0) of each row's UTF-8 bytes: uint64[n]; a null hashes as the empty string."""
    data, offsets = string_buffers(column)
    hashes = np.empty(len(column), np.uint64)
    _hash_rows(data, offsets, hashes)
    return hashes


def pair_keys(url_hashes: UInt64s, text_hashes: UInt64s) -> UInt64s:
    """The key of each pair: XXH64 of its URL's and its text's hash, 16 bytes little-endian.

    Args:
      url_hashes, text_hashes: uint64[n], hashes of the URL's and the alt-text's identity.

    Returns:
      uint64[n].
    """
    keys = np.empty(len(url_hashes), np.uint64)
    _mix(url_hashes, text_hashes, keys)
    return keys


@njit(nogil=True, cache=True)
def _contains(members, starts, shift, hashes, found):  # type: ignore[no-untyped-def]
    for row in range(len(hashes)):
        wanted = hashes[row]
        slot = wanted >> shift
        stop = starts[slot + np.uint64(1)]
        at = starts[slot]
        while at < stop and members[at] < wanted:
            at += 1
        found[row] = at < stop and members[at] == wanted


class HashSet:
    """A set of 64-bit hashes over a sorted array, which may be a mapped file.

    Hashes are uniform, so their top bits lead to within a few members of the place: one look-up
    touches two cache lines where a binary search over 100 million members touches 27.

    Args:
      members: uint64[k], ascending, without repeats.

    Raises:
      ValueError: the members are not ascending.
    """

    def __init__(self, members: UInt64s) -> None:
        if not np.all(members[1:] > members[:-1]):
            raise ValueError("a set of hashes must be ascending without repeats; write it sorted")
        bits = min(max(1, len(members).bit_length() - 2), 30)
        self._shift = np.uint64(64 - bits)
        edges = np.arange(1 << bits, dtype=np.uint64) << self._shift
        self._starts = np.append(np.searchsorted(members, edges), len(members)).astype(np.int64)
        self.members = members

    @classmethod
    def open(cls, path: str | Path) -> HashSet:
        """Maps a file of little-endian uint64, ascending."""
        if Path(path).stat().st_size == 0:  # an empty file cannot be mapped
            return cls(np.zeros(0, np.uint64))
        return cls(np.memmap(path, "<u8", "r").view(np.ndarray))

    def __len__(self) -> int:
        return len(self.members)

    def contains(self, hashes: UInt64s) -> Bools:
        """Whether each of uint64[n] is a member: bool[n]."""
        found = np.empty(len(hashes), np.bool_)
        _contains(self.members, self._starts, self._shift, hashes, found)
        return found
