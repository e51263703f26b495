"""Corpus-wide counts over columns of hashes: what is frequent, what is repeated, what is rare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from alignset.transforms.columns.hashing import Bools, UInt64s
from alignset.transforms.corpus.hash_sets import HashSet

Int64s = npt.NDArray[np.int64]
Ints = npt.NDArray[np.int32]
Number = TypeVar("Number", bound=np.number)


def runs(values: npt.NDArray[Number]) -> tuple[npt.NDArray[Number], Int64s]:
    """Each distinct value of an ascending array, and how often it stands there.

    >>> [column.tolist() for column in runs(np.array([3, 3, 5, 9, 9, 9]))]
    [[3, 5, 9], [2, 1, 3]]
    """
    starts = np.flatnonzero(np.append(values[:1] == values[:1], values[1:] != values[:-1]))
    return values[starts], np.diff(starts, append=len(values))


def byte_runs(values: UInt64s) -> tuple[UInt64s, npt.NDArray[np.uint8]]:
    """As `runs`, in a byte a count: a value that stands there more than 255 times comes more than
    once, and its counts add up.

    >>> [column.tolist() for column in byte_runs(np.array([7] * 300 + [8], np.uint64))]
    [[7, 7, 8], [255, 45, 1]]
    """
    distinct, times = runs(values)
    rows = (times + 254) // 255
    counts = np.full(rows.sum(), 255, np.uint8)
    counts[np.cumsum(rows) - 1] = times - 255 * (rows - 1)
    return np.repeat(distinct, rows), counts


def repeated_rows(
    keys: UInt64s, urls: UInt64s, texts: UInt64s, exact: UInt64s, order: UInt64s
) -> npt.NDArray[np.intp]:
    """The rows that repeat a pair; of equal pairs the first by (exact, order) is not among them.

    Args:
      keys, urls, texts: uint64[n], hashes of the pair's and both identities: equal pairs agree.
      exact: uint64[n], hash of the very strings, so that the choice does not depend on order.
      order: uint64[n], place in the input, for pairs that are the same to the letter.

    Returns:
      row numbers, in no order.
    """
    sorted_keys = np.sort(keys)
    again, _ = runs(sorted_keys[1:][sorted_keys[1:] == sorted_keys[:-1]])
    rows = np.flatnonzero(HashSet(again).contains(keys))
    rows = rows[np.lexsort((order[rows], exact[rows], texts[rows], urls[rows]))]
    same = (urls[rows][1:] == urls[rows][:-1]) & (texts[rows][1:] == texts[rows][:-1])
    return rows[1:][same]


def ngrams_of(ngrams: UInt64s, first: Int64s, word_count: Ints, rows: Bools) -> UInt64s:
    """The n-grams of the marked rows, in no order; of all rows it is the array itself.

    Args:
      ngrams, first, word_count: of n texts, as in `Texts`. rows: bool[n].
    """
    if np.all(rows | (word_count == 0)):
        return ngrams
    order = np.argsort(first, kind="stable")
    return ngrams[np.repeat(rows[order], np.maximum(2 * word_count[order] - 1, 0))]


def sum_by_hash(hashes: UInt64s, counts: npt.NDArray[np.unsignedinteger]) -> tuple[UInt64s, Int64s]:
    """Each distinct hash, ascending, and the sum of its counts, each at least 1."""
    distinct, sums = runs(np.sort(hashes))  # quicker without their counts, most of which are 1
    more = np.flatnonzero(counts > 1)
    more = more[np.argsort(hashes[more])]
    again, times = runs(hashes[more])
    extra = np.add.reduceat(counts[more], np.cumsum(times) - times, dtype=np.int64) - times
    sums[np.searchsorted(distinct, again)] += extra
    return distinct, sums


class VocabularyCut(NamedTuple):
    """Where a vocabulary ends.

    Attributes:
      cut_off: n-grams counted more often are kept; with 0 all are.
      quotas: by bucket, how many of those counted exactly so often, smallest hashes first.
    """

    cut_off: int
    quotas: dict[int, int]


def vocabulary_cut(histograms: Mapping[int, tuple[Int64s, Int64s]], size: int) -> VocabularyCut:
    """Where the vocabulary of the `size` most frequent n-grams ends.

    Args:
      histograms: per bucket of hashes, int64[m] distinct counts and int64[m] how many n-grams
        have each. Buckets are numbered in the order of their hashes.
      size: how many n-grams to keep.
    """
    counts = np.concatenate([h[0] for h in histograms.values()] or [np.zeros(0, np.int64)])
    n_grams = np.concatenate([h[1] for h in histograms.values()] or [np.zeros(0, np.int64)])
    if n_grams.sum() <= size:
        return VocabularyCut(0, dict.fromkeys(histograms, 0))
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
    return VocabularyCut(cut, quotas)


def frequent_ngrams(
    hashes: UInt64s, counts: npt.NDArray[np.integer], cut: int, quota: int
) -> UInt64s:
    """The n-grams of one bucket that are in the vocabulary; both ascend."""
    in_vocabulary = counts > cut
    in_vocabulary[np.flatnonzero(counts == cut)[:quota]] = True
    return hashes[in_vocabulary]
