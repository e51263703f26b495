"""Sets of hashes over sorted files, which workers map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numba import njit

from alignset.transforms.columns.hashing import Bools, UInt64s, read_only
from alignset.transforms.columns.kernels import kernel


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
