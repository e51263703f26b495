"""Corpus-wide counts over columns of hashes: what is frequent, what is repeated, what is rare."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from numba import njit

from transforms.hashing import HashSet, UInt64s, pair_keys

Counts = npt.NDArray[np.int64]


def runs(values: npt.NDArray) -> tuple[npt.NDArray, Counts]:
    """Each distinct value of an ascending array, and how often it stands there."""
    if not len(values):
        return values, np.zeros(0, np.int64)
    starts = np.flatnonzero(np.append(True, values[1:] != values[:-1]))
    return values[starts], np.diff(np.append(starts, len(values)))


def frequent_keys(keys: UInt64s, partners: UInt64s, limit: int) -> UInt64s:
    """The keys with more than `limit` distinct partners, such as alt-texts on many images.

    Args:
      keys, partners: uint64[n]; a row may stand there several times.

    Returns:
      uint64[k], ascending.
    """
    values, counts = runs(np.sort(keys))
    suspects = values[counts > limit]  # few, so only they are counted exactly
    if not len(suspects):
        return suspects
    rows = HashSet(suspects).contains(keys)
    keys, partners = keys[rows], partners[rows]
    order = np.lexsort((partners, keys))
    keys, partners = keys[order], partners[order]
    fresh = np.append(True, (keys[1:] != keys[:-1]) | (partners[1:] != partners[:-1]))
    values, counts = runs(keys[fresh])
    return values[counts > limit]


def repeated_rows(
    urls: UInt64s, texts: UInt64s, exact: UInt64s, order: UInt64s
) -> npt.NDArray[np.intp]:
    """The rows that repeat a pair; of equal pairs the first by (exact, order) is not among them.

    Args:
      urls, texts: uint64[n], hashes of both identities: equal pairs agree in both.
      exact: uint64[n], hash of the very strings, so that the choice does not depend on order.
      order: uint64[n], place in the input, for pairs that are the same to the letter.

    Returns:
      row numbers, in no order.
    """
    keys = pair_keys(urls, texts)
    values, counts = runs(np.sort(keys))
    rows = np.flatnonzero(HashSet(values[counts > 1]).contains(keys))
    rows = rows[np.lexsort((order[rows], exact[rows], texts[rows], urls[rows]))]
    same = (urls[rows][1:] == urls[rows][:-1]) & (texts[rows][1:] == texts[rows][:-1])
    return rows[1:][same]


@njit(nogil=True, cache=True)
def _sum_by_hash(hashes, counts, table, sums, mask):  # type: ignore[no-untyped-def]
    """Open addressing; the hash is uniform, so its low bits are the slot. A count of 0 is free."""
    for row in range(len(hashes)):
        slot = hashes[row] & mask
        while sums[slot] != 0 and table[slot] != hashes[row]:
            slot = (slot + np.uint64(1)) & mask
        table[slot] = hashes[row]
        sums[slot] += counts[row]


def sum_by_hash(hashes: UInt64s, counts: Counts) -> tuple[UInt64s, Counts]:
    """Adds up the counts of equal hashes.

    Args:
      hashes: uint64[n]. counts: int64[n], each at least 1.

    Returns:
      uint64[k] distinct hashes in no order, and int64[k] their sums.
    """
    size = 1 << max(4, (2 * len(hashes)).bit_length())
    table = np.empty(size, np.uint64)
    sums = np.zeros(size, np.int64)
    _sum_by_hash(hashes, counts, table, sums, np.uint64(size - 1))
    used = np.flatnonzero(sums)
    return table[used], sums[used]


def vocabulary_cut(
    histograms: Mapping[int, tuple[Counts, Counts]], size: int
) -> tuple[int, dict[int, int]]:
    """Where the vocabulary of the `size` most frequent n-grams ends.

    Args:
      histograms: per bucket of hashes, int64[m] distinct counts and int64[m] how many n-grams
        have each. Buckets are numbered in the order of their hashes.
      size: how many n-grams to keep.

    Returns:
      The cut-off c: n-grams counted more than c times are kept, and per bucket how many of those
      counted exactly c times, smallest hashes first. With c = 0 all are kept.
    """
    counts = np.concatenate([h[0] for h in histograms.values()] or [np.zeros(0, np.int64)])
    n_grams = np.concatenate([h[1] for h in histograms.values()] or [np.zeros(0, np.int64)])
    if n_grams.sum() <= size:
        return 0, dict.fromkeys(histograms, 0)
    values, place = np.unique(counts, return_inverse=True)
    at_least = np.cumsum(np.bincount(place, n_grams)[::-1].astype(np.int64))[::-1]
    at_cut = int(np.flatnonzero(at_least > size)[-1])
    cut = int(values[at_cut])
    room = size - (int(at_least[at_cut + 1]) if at_cut + 1 < len(values) else 0)
    quotas = {}
    for bucket in sorted(histograms):
        distinct, having = histograms[bucket]
        quotas[bucket] = min(room, int(having[distinct == cut].sum()))
        room -= quotas[bucket]
    return cut, quotas


def frequent_ngrams(hashes: UInt64s, counts: Counts, cut: int, quota: int) -> UInt64s:
    """The n-grams of one bucket that are in the vocabulary: uint64[k], ascending."""
    above = hashes[counts > cut]
    ties = np.sort(hashes[counts == cut])[:quota]
    return np.sort(np.concatenate([above, ties]))
