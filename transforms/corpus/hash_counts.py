"""Corpus-wide counts over columns of hashes: what is frequent, what is repeated, what is rare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from alignset.transforms.columns.hashing import Bools, UInt64s
from alignset.transforms.columns.kernels import kernel
from alignset.transforms.corpus.hash_sets import HashSet
from alignset.transforms.pairs.text_kernels import ngram_count

Int64s = npt.NDArray[np.int64]
Ints = npt.NDArray[np.int32]
Number = TypeVar("Number", bound=np.number)

ROWS_AT_ONCE = 1 << 15  # their table is in the cache: half the time of one for all hashes


@kernel
def _runs(values, longest, distinct, counts):  # type: ignore[no-untyped-def]
    filled, start = 0, 0
    for at in range(1, len(values) + 1):
        if at == len(values) or values[at] != values[start] or at - start == longest:
            distinct[filled], counts[filled] = values[start], at - start
            filled += 1
            start = at
    return filled


def runs(values: npt.NDArray[Number]) -> tuple[npt.NDArray[Number], Int64s]:
    """Each distinct value of an ascending array, and how often it stands there."""
    runs_found = np.count_nonzero(values[1:] != values[:-1]) + (len(values) > 0)
    distinct, counts = np.empty(runs_found, values.dtype), np.empty(runs_found, np.int64)
    if runs_found:
        _runs(values, len(values), distinct, counts)
    return distinct, counts


def byte_runs(values: UInt64s) -> tuple[UInt64s, npt.NDArray[np.uint8]]:
    """As `runs`, in a byte a count: a value that stands there more than 255 times comes more than
    once, and its counts add up."""
    room = np.count_nonzero(values[1:] != values[:-1]) + 1 + len(values) // 255
    distinct, counts = np.empty(room, np.uint64), np.empty(room, np.uint8)
    filled = _runs(values, 255, distinct, counts) if len(values) else 0
    return distinct[:filled], counts[:filled]


_OFTEN_BITS = 16  # places for n-grams that are counted as they come; their table is in the cache


@kernel
def _set_aside(ngrams, often, times):  # type: ignore[no-untyped-def]
    """Counts n-grams that have a place, first come, first served; the others are moved to the front
    and each of the counted behind them. Returns how many stand there then."""
    left = 0
    for at in range(len(ngrams)):
        ngram = ngrams[at]
        place = ngram >> np.uint64(64 - _OFTEN_BITS)
        if times[place] == 0:
            often[place] = ngram
        counted = often[place] == ngram
        times[place] += counted
        ngrams[left] = ngram
        left += not counted
    for place in range(len(often)):
        if times[place]:
            ngrams[left] = often[place]
            left += 1
    return left


@kernel
def _counted_runs(ngrams, often, times, distinct, counts):  # type: ignore[no-untyped-def]
    """As `byte_runs`, with the counts of those that have a place."""
    filled, start = 0, 0
    for at in range(1, len(ngrams) + 1):
        if at == len(ngrams) or ngrams[at] != ngrams[start]:
            ngram = ngrams[start]
            place = ngram >> np.uint64(64 - _OFTEN_BITS)
            left = np.int64(times[place]) if often[place] == ngram else at - start
            while left > 0:
                distinct[filled], counts[filled] = ngram, min(left, 255)
                filled += 1
                left -= 255
            start = at
    return filled


def count_ngrams(ngrams: UInt64s) -> tuple[UInt64s, npt.NDArray[np.uint8]]:
    """How often each n-gram stands in an array, in any order, which is used up: as `byte_runs`."""
    often, times = np.zeros(1 << _OFTEN_BITS, np.uint64), np.zeros(1 << _OFTEN_BITS, np.uint32)
    rest = ngrams[: _set_aside(ngrams, often, times)]  # a third, so that less is sorted
    rest.sort()
    room = len(rest) + len(ngrams) // 255
    distinct, counts = np.empty(room, np.uint64), np.empty(room, np.uint8)
    filled = _counted_runs(rest, often, times, distinct, counts)
    return distinct[:filled], counts[:filled]


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
    ordered = np.sort(keys)
    again, _ = runs(ordered[1:][ordered[1:] == ordered[:-1]])
    rows = np.flatnonzero(HashSet(again).contains(keys))
    rows = rows[np.lexsort((order[rows], exact[rows], texts[rows], urls[rows]))]
    same = (urls[rows][1:] == urls[rows][:-1]) & (texts[rows][1:] == texts[rows][:-1])
    return rows[1:][same]


@kernel
def _gather(ngrams, first, word_count, rows, gathered):  # type: ignore[no-untyped-def]
    end = 0
    for row in range(len(rows)):
        if rows[row]:
            for at in range(first[row], first[row] + ngram_count(word_count[row])):
                gathered[end] = ngrams[at]
                end += 1
    return end


def ngrams_of(ngrams: UInt64s, first: Int64s, word_count: Ints, rows: Bools) -> UInt64s:
    """The n-grams of the marked rows, in no order; of all rows it is the array itself.

    Args:
      ngrams, first, word_count: of n texts, as in `Texts`. rows: bool[n].
    """
    if np.all(rows | (word_count == 0)):
        return ngrams
    gathered = np.empty(len(ngrams), np.uint64)
    return gathered[: _gather(ngrams, first, word_count, rows, gathered)]


# Taken slots that are passed by, a row: 0.5 of hashes as they fall, and 2 in the fullest table.
# Hashes can be chosen (XXH64 has an inverse) so that it were half of all rows.
_PASSED_BY = 8


@kernel
def _sum_ranges(pieces, starts, shift, table, sums, out):  # type: ignore[no-untyped-def]
    """Adds up the counts of one range of hashes after another; returns how many hashes there are,
    or -1 where too many share their top bits.

    Open addressing, by the hashes' top bits within their range. A count of 0 is free.
    """
    hashes, counts, edges = pieces
    found, totals = out
    mask = np.uint64(len(table) - 1)
    left = _PASSED_BY * len(hashes)
    used = 0
    for at in range(len(starts)):
        for piece in range(len(edges)):
            for row in range(edges[piece, at], edges[piece, at + 1]):
                wanted = hashes[row]
                slot = (wanted - starts[at]) >> shift
                while sums[slot] != 0 and table[slot] != wanted:
                    slot = (slot + np.uint64(1)) & mask
                    left -= 1
                    if left < 0:
                        return -1
                table[slot] = wanted
                sums[slot] += counts[row]
        for slot in range(len(table)):
            if sums[slot]:
                found[used], totals[used] = table[slot], sums[slot]
                sums[slot] = 0
                used += 1
    return used


def _sum_sorted(hashes: UInt64s, counts: npt.NDArray[np.unsignedinteger]) -> tuple[UInt64s, Int64s]:
    """As `sum_by_hash`, of any hashes in the same time: three times as long as usual."""
    order = np.argsort(hashes)
    distinct, times = runs(hashes[order])
    sums = np.add.reduceat(counts[order], np.cumsum(times) - times, dtype=np.int64)
    return distinct, sums


def sum_by_hash(
    hashes: Sequence[UInt64s], counts: Sequence[npt.NDArray[np.unsignedinteger]]
) -> tuple[UInt64s, Int64s]:
    """Adds up the counts of equal hashes, one range of hashes after another.

    Args:
      hashes: pieces of uint64[n]; each ascends. counts: as many of uint8[n] to uint32[n], each at
        least 1.

    Returns:
      uint64[k] distinct hashes in no order, and int64[k] their sums.

    Raises:
      ValueError: a piece does not ascend, so that hashes would fall outside their range's table; or
        its counts are not as many.
    """
    if any(np.any(piece[1:] < piece[:-1]) for piece in hashes):
        raise ValueError("each piece of hashes must ascend; sort it and its counts")
    if [*map(len, hashes)] != [*map(len, counts)]:
        raise ValueError("each piece of hashes must have as many counts")
    filled = [piece for piece in hashes if len(piece)]
    lowest = min((int(piece[0]) for piece in filled), default=0)
    spread = max((int(piece[-1]) for piece in filled), default=0) - lowest
    # Joined, so that one call of a kernel does all, without the interpreter's lock.
    joined = np.concatenate(filled or [np.zeros(0, np.uint64)])
    times = np.concatenate([*counts] or [np.zeros(0, np.uint8)])
    # A power of two, as the hashes' spread nearly is in a bucket: then each fills its whole table.
    ranges = 1 << (len(joined) // ROWS_AT_ONCE).bit_length()
    starts = np.array([lowest + spread * at // ranges for at in range(ranges)], np.uint64)
    edges = np.zeros((len(filled), ranges + 1), np.int64)
    for edge, piece in zip(edges, filled, strict=True):
        edge[:-1], edge[-1] = np.searchsorted(piece, starts), len(piece)
    most = int(np.diff(edges).sum(axis=0).max())
    edges += np.cumsum([0, *map(len, filled)])[:-1, np.newaxis]  # in `joined`
    size = 1 << (most + most // 4 + 8).bit_length()
    shift = np.uint64(max(0, (spread // ranges + 1).bit_length() - size.bit_length() + 1))
    table, sums = np.empty(size, np.uint64), np.zeros(size, np.int64)
    out = np.empty(len(joined), np.uint64), np.empty(len(joined), np.int64)
    used = _sum_ranges((joined, times, edges), starts, shift, table, sums, out)
    if used < 0:
        return _sum_sorted(joined, times)
    return out[0][:used], out[1][:used]


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
    """The n-grams of one bucket that are in the vocabulary: uint64[k], ascending."""
    above = hashes[counts > cut]
    if quota:  # most n-grams may occur as often as those at the cut
        above = np.concatenate([above, np.sort(hashes[counts == cut])[:quota]])
    return np.sort(above)
