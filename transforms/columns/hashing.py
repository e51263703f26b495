"""One stable 64-bit hash (XXH64, seed 0) for texts, URLs and n-grams, and sets of such hashes.

The hash is written here as a numba kernel because it must run inside other kernels without the
interpreter's lock; tests hold it against the `xxhash` package.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from alignset.transforms.columns.kernels import kernel

UInt64s = npt.NDArray[np.uint64]
Values = TypeVar("Values", bound=npt.NDArray[Any])
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
def _byte(data, at, place):  # type: ignore[no-untyped-def]
    # The unsigned index needs no test for a negative one, so that the loads of neighbouring bytes
    # become one load: 20 ns for a hash of 60 bytes instead of 44.
    return np.uint64(data[np.uint64(at + place)]) << np.uint64(8 * place)


@njit(inline="always")
def _read4(data, at):  # type: ignore[no-untyped-def]
    low = _byte(data, at, 0) | _byte(data, at, 1)
    return low | _byte(data, at, 2) | _byte(data, at, 3)


@njit(inline="always")
def read8(data, at):  # type: ignore[no-untyped-def]
    """Eight bytes as a little-endian uint64. For use inside kernels."""
    low = _byte(data, at, 0) | _byte(data, at, 1) | _byte(data, at, 2) | _byte(data, at, 3)
    high = _byte(data, at, 4) | _byte(data, at, 5) | _byte(data, at, 6) | _byte(data, at, 7)
    return low | high


@njit(inline="always")
def _last8(data, at, stop):  # type: ignore[no-untyped-def]
    """As `read8`, with NULs from `stop` on."""
    behind = max(0, at + 8 - stop)
    return read8(data, at) & (~np.uint64(0) >> np.uint64(8 * behind))


@njit(inline="always")
def _round(acc, lane):  # type: ignore[no-untyped-def]
    return _rotl(acc + lane * _P2, 31) * _P1


@njit(inline="always")
def _add_lane(h, lane):  # type: ignore[no-untyped-def]
    return _rotl(h ^ _round(np.uint64(0), lane), 27) * _P1 + _P4


@njit(inline="always")
def _merged(a, b, c, d):  # type: ignore[no-untyped-def]
    h = _rotl(a, 1) + _rotl(b, 7) + _rotl(c, 12) + _rotl(d, 18)
    for lane in (a, b, c, d):
        h = (h ^ _round(np.uint64(0), lane)) * _P1 + _P4
    return h


@njit(inline="always")
def _avalanche(h):  # type: ignore[no-untyped-def]
    h = (h ^ (h >> np.uint64(33))) * _P2
    h = (h ^ (h >> np.uint64(29))) * _P3
    return h ^ (h >> np.uint64(32))


@kernel
def xxh64(data, start, stop):  # type: ignore[no-untyped-def]
    """XXH64 with seed 0 of `data[start:stop]`; data: uint8[n]. For use inside kernels."""
    size = stop - start
    at = start
    if size >= 32:
        a, b, c, d = _P1 + _P2, _P2, np.uint64(0), np.uint64(0) - _P1
        while at + 32 <= stop:
            a = _round(a, read8(data, at))
            b = _round(b, read8(data, at + 8))
            c = _round(c, read8(data, at + 16))
            d = _round(d, read8(data, at + 24))
            at += 32
        h = _merged(a, b, c, d)
    else:
        h = _P5
    h += np.uint64(size)
    while at + 8 <= stop:
        h = _add_lane(h, read8(data, at))
        at += 8
    if at + 4 <= stop:
        h = _rotl(h ^ (_read4(data, at) * _P1), 23) * _P2 + _P3
        at += 4
    while at < stop:
        h = _rotl(h ^ (np.uint64(data[at]) * _P5), 11) * _P1
        at += 1
    return _avalanche(h)


@kernel
def _hash_rows(data, offsets, hashes):  # type: ignore[no-untyped-def]
    for row in range(len(hashes)):
        hashes[row] = xxh64(data, offsets[row], offsets[row + 1])


@njit(inline="always")
def word_hash(data, start, stop):  # type: ignore[no-untyped-def]
    """XXH64 of `data[start:stop]` filled up with NULs to a multiple of 8 bytes, at least 8.

    No byte-wise tail: a third of the time of the plain XXH64 of a short word. No two words have one
    hash for it, since none ends in NUL. For use inside kernels; `data` has 8 bytes more behind.
    """
    lanes = (stop - start + 7) >> 3
    if lanes > 3:
        return _long_word_hash(data, start, stop)
    h = _P5 + np.uint64(8 * lanes)
    at = start
    while at + 8 < stop:
        h = _add_lane(h, read8(data, at))
        at += 8
    return _avalanche(_add_lane(h, _last8(data, at, stop)))


@kernel
def _long_word_hash(data, start, stop):  # type: ignore[no-untyped-def]
    a, b, c, d = _P1 + _P2, _P2, np.uint64(0), np.uint64(0) - _P1
    at, end = start, start + (stop - start + 7) // 8 * 8
    while at + 32 <= end:
        a = _round(a, read8(data, at))
        b = _round(b, read8(data, at + 8))
        c = _round(c, read8(data, at + 16))
        d = _round(d, _last8(data, at + 24, stop))
        at += 32
    h = _merged(a, b, c, d) + np.uint64(end - start)
    while at < end:
        h = _add_lane(h, _last8(data, at, stop))
        at += 8
    return _avalanche(h)


@njit(inline="always")
def pair_begin(first):  # type: ignore[no-untyped-def]
    """The first half of `pair_hash`."""
    return _add_lane(_P5 + np.uint64(16), first)


@njit(inline="always")
def pair_end(first_half, second):  # type: ignore[no-untyped-def]
    """The second half of `pair_hash`."""
    return _avalanche(_add_lane(first_half, second))


@njit(inline="always")
def pair_hash(first, second):  # type: ignore[no-untyped-def]
    """XXH64 of the 16 bytes of two little-endian uint64. For use inside kernels."""
    return pair_end(pair_begin(first), second)


@kernel
def _pair_rows(first, second, out):  # type: ignore[no-untyped-def]
    for row in range(len(out)):
        out[row] = pair_hash(first[row], second[row])


def read_only(values: Values) -> Values:
    """The same array, not to be written to, as some buffers of Arrow are and others are not.

    numba compiles a kernel once for each of the two, which takes seconds.
    """
    view = values.view()
    view.flags.writeable = False
    return view


def string_buffers(column: pa.StringArray) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """The bytes (uint8) and the row offsets (int32[n + 1]) behind a string column, not copied."""
    _, offsets, data = column.buffers()
    if offsets is None or len(column) == 0:
        return read_only(np.zeros(0, np.uint8)), read_only(np.zeros(1, np.int32))
    rows = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    text = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    return read_only(text), read_only(rows)


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
    _pair_rows(read_only(url_hashes), read_only(text_hashes), keys)
    return keys


# At its first kernel numba looks around for 0.3 s; done here, no threads wait for one another.
pair_keys(np.zeros(1, np.uint64), np.zeros(1, np.uint64))


@kernel
def _is_between(members, at, stop, value):  # type: ignore[no-untyped-def]
    """Whether a hash is among the members from `at` to `stop`, by bisection."""
    while stop - at > 1:
        middle = (at + stop) >> 1
        if members[middle] <= value:
            at = middle
        else:
            stop = middle
    return at < stop and members[at] == value


@njit(inline="always")
def is_member(table, value):  # type: ignore[no-untyped-def]
    """Whether a hash is in the dataset behind `HashSet.table`. For use inside kernels."""
    members, starts, shift = table
    slot = value >> shift
    at, stop = np.int64(starts[slot]), np.int64(starts[slot + np.uint64(1)])
    far = at + 8  # a slot has one member, but they can be chosen so that one has all
    while at < stop and members[at] < value:
        at += 1
        if at == far:
            return _is_between(members, at, stop, value)
    return at < stop and members[at] == value


@kernel
def _contains(table, hashes, answers):  # type: ignore[no-untyped-def]
    for row in range(len(hashes)):
        answers[row] = is_member(table, hashes[row])


@kernel
def _index(members, shift, starts):  # type: ignore[no-untyped-def]
    """Where the members of each slot start; False where they do not ascend. Nothing is copied:
    100 million members are 800 MB of a mapped file."""
    next_slot = 0
    for at in range(len(members)):
        if at > 0 and members[at] <= members[at - 1]:
            return False
        slot = np.int64(members[at] >> shift)
        while next_slot <= slot:
            starts[next_slot] = at
            next_slot += 1
    starts[next_slot:] = len(members)
    return True


class HashSet:
    """A set of 64-bit hashes over a sorted array, which may be a mapped file.

    Hashes are uniform, so their top bits lead to within a few members of the place: one look-up
    touches two cache lines where a binary search over 100 million members touches 27.

    Args:
      members: uint64[k], ascending, without repeats.

    Raises:
      ValueError: the members are not ascending, or too many.
    """

    def __init__(self, members: UInt64s) -> None:
        if len(members) >= 1 << 32:
            raise ValueError(f"a set of hashes may have 4 billion members; got {len(members):,}")
        bits = min(max(1, len(members).bit_length()), 26)  # a place a member, 256 MiB at most
        shift = np.uint64(64 - bits)
        starts = np.empty((1 << bits) + 1, np.uint32)
        if not _index(members, shift, starts):
            raise ValueError("a set of hashes must be ascending without repeats; write it sorted")
        self.members = members
        self.table = (members, starts, shift)  # for kernels

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
        answers = np.empty(len(hashes), np.bool_)
        _contains(self.table, read_only(hashes), answers)
        return answers
