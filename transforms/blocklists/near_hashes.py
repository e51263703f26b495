"""Which hash of millions is nearest to another, by the bits in which they differ, up to a few.

Two hashes that differ in at most d bits agree, or nearly, in one of their parts of 16 bits: among
m parts there is one in which they differ in at most d // m bits. So only the members are compared
that have such a part (Norouzi et al., 2012, "Fast search in Hamming space with multi-index
hashing").
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from alignset.transforms.columns.hashing import UInt64s
from alignset.transforms.columns.kernels import kernel

_FEW = 4096  # of which each is compared
_PART_VALUES = 1 << 16
_MOST_FLIPS = 2  # in a part; beyond, so many values are near that each member is compared


class NearHashes(NamedTuple):
    """Hashes of w words of 64 bits, ready to be searched.

    Fields:
      hashes: uint64[n, w], in their order, without repeats.
      members: uint32[4 w, n], the numbers of the hashes in the order of each 16-bit part; none
        where they are few. starts: uint32[4 w, 65537], where those with each value begin.
    """

    hashes: UInt64s
    members: npt.NDArray[np.uint32]
    starts: npt.NDArray[np.uint32]


def near_hashes(hashes: UInt64s) -> NearHashes:
    """Makes hashes ready to be searched.

    Args:
      hashes: uint64[n, w].
    """
    hashes = np.unique(hashes, axis=0)
    count, words = hashes.shape
    parts = 4 * words if count > _FEW else 0
    members = np.empty((parts, count), np.uint32)
    starts = np.empty((parts, _PART_VALUES + 1), np.uint32)
    for part in range(parts):
        values = (hashes[:, part >> 2] >> np.uint64(16 * (part & 3))) & np.uint64(0xFFFF)
        values = values.astype(np.int64)
        order = np.argsort(values, kind="stable")
        members[part] = order
        starts[part] = np.searchsorted(values[order], np.arange(_PART_VALUES + 1))
    return NearHashes(hashes, members, starts)


@kernel
def _bits(word):  # type: ignore[no-untyped-def]
    """How many bits are set."""
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    fours = np.uint64(0x3333333333333333)
    word = (word & fours) + ((word >> np.uint64(2)) & fours)
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@kernel
def _distance(hashes, row, queries, at):  # type: ignore[no-untyped-def]
    bits = 0
    for word in range(hashes.shape[1]):
        bits += _bits(hashes[row, word] ^ queries[at, word])
    return bits


@kernel
def _least_of_value(index, part, value, queries, at, least):  # type: ignore[no-untyped-def]
    hashes, members, starts = index
    for place in range(starts[part, value], starts[part, value + 1]):
        least = min(least, _distance(hashes, members[part, place], queries, at))
    return least


@kernel
def _least_of_part(index, part, queries, at, flips, least):  # type: ignore[no-untyped-def]
    """The least distance to those whose part has at most so many other bits."""
    word = queries[at, part >> 2] >> np.uint64(16 * (part & 3))
    value = np.int64(word & np.uint64(0xFFFF))
    least = _least_of_value(index, part, value, queries, at, least)
    for first in range(16 if flips > 0 else 0):
        once = value ^ (1 << first)
        least = _least_of_value(index, part, once, queries, at, least)
        for second in range(first if flips > 1 else 0):
            least = _least_of_value(index, part, once ^ (1 << second), queries, at, least)
    return least


@kernel
def _search(index, queries, most, distances):  # type: ignore[no-untyped-def]
    hashes, members, _ = index
    parts = members.shape[0]
    flips = most // max(1, parts)
    for at in range(len(distances)):
        least = most + 1
        if parts == 0 or flips > _MOST_FLIPS:
            for row in range(hashes.shape[0]):
                least = min(least, _distance(hashes, row, queries, at))
        else:
            for part in range(parts):
                least = _least_of_part(index, part, queries, at, flips, least)
        distances[at] = least


def least_distances(index: NearHashes, hashes: UInt64s, most: int) -> npt.NDArray[np.int64]:
    """How far the nearest member is from each hash, in bits: int64[m]; `most` + 1 where it is
    farther than `most`.

    Args:
      hashes: uint64[m, w]. most: bits, 0 or more.
    """
    distances = np.empty(len(hashes), np.int64)
    _search(tuple(index), np.ascontiguousarray(hashes), most, distances)
    return distances
