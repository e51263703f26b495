"""Corpus-wide counts over columns of hashes: what is frequent, what is repeated, what is rare; and
n-grams by language: each hashes its own, and has its own part of the vocabulary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.columns.hashing import Bools, HashSet, UInt64s, pair_hash, string_hashes
from alignset.transforms.columns.kernels import kernel
from alignset.transforms.pairs.measure_pairs import NGrams
from alignset.transforms.pairs.text_kernels import ngram_count
from alignset.transforms.rules.language_codes import ENGLISH, NUMBERED

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
    """The rows that repeat a pair; the first of equal pairs, by (exact, order), is not among them.

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
    """The n-grams of the marked rows, in no order; the array itself where all rows are marked.

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


def join_histograms(histograms: Mapping[int, tuple[Int64s, Int64s]]) -> tuple[Int64s, Int64s]:
    """Distinct counts, descending, and how many n-grams have each, over all buckets."""
    counts, ngrams = (
        np.concatenate([np.zeros(0, np.int64), *(of[at] for of in histograms.values())])
        for at in (0, 1)
    )
    values, places = np.unique(counts, return_inverse=True)
    return values[::-1], np.bincount(places, ngrams).astype(np.int64)[::-1]


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
    counts, ngrams = join_histograms(histograms)
    at_least = np.cumsum(ngrams)
    if ngrams.sum() <= size:
        return VocabularyCut(0, dict.fromkeys(histograms, 0))
    at_cut = int(np.flatnonzero(at_least > size)[0])
    cut, room = int(counts[at_cut]), size - int(at_least[at_cut] - ngrams[at_cut])
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


ENGLISH_NUMBER = NUMBERED.index(ENGLISH) + 1  # of all texts, too, where no vote is taken
Histograms = Mapping[int, tuple[Int64s, Int64s]]  # of one language, by bucket of hashes
UInt8s = npt.NDArray[np.uint8]


def language_numbers(languages: pa.StringArray) -> UInt8s:
    """The places from 1 on in `NUMBERED` of some languages; 0 of a null."""
    places = pc.fill_null(pc.index_in(languages, value_set=pa.array(NUMBERED)), -1)
    return (places.to_numpy() + 1).astype(np.uint8)


@lru_cache(maxsize=1)
def _salts() -> UInt64s:
    """By number, what a language's n-grams are hashed with; 0 leaves them as they are."""
    salts = np.append(np.uint64(0), string_hashes(pa.array(NUMBERED)))
    salts[ENGLISH_NUMBER] = 0
    return salts


@kernel
def _salt(ngrams, first, word_count, salts):  # type: ignore[no-untyped-def]
    for row in range(len(salts)):
        if salts[row]:
            for at in range(first[row], first[row] + ngram_count(word_count[row])):
                ngrams[at] = pair_hash(ngrams[at], salts[row])


def hash_with_language(
    ngrams: NGrams, word_count: npt.NDArray[np.int32], numbers: UInt8s | None
) -> None:
    """Changes the n-grams of n texts to their languages' n-grams, in place.

    Args:
      numbers: uint8[n], as of `language_numbers`; None where no vote is taken.
    """
    if numbers is not None:
        _salt(ngrams.hashes, ngrams.first, word_count, _salts()[numbers])


def split_by_language(table: pa.Table) -> Iterator[tuple[int, UInt64s, npt.NDArray[Any]]]:
    """Each language of a table of n-gram counts, with its rows of both columns."""
    ngrams, counts = (table[name].to_numpy() for name in ("ngram", "count"))
    if "language" not in table.column_names:
        yield ENGLISH_NUMBER, ngrams, counts
        return
    numbers = table["language"].to_numpy()
    for number in np.unique(numbers).tolist():
        yield number, ngrams[numbers == number], counts[numbers == number]


def texts_by_language(pair_counts: Int64s | int) -> dict[int, int]:
    """How many pairs there are of each language.

    Args:
      pair_counts: int64[256], how many with which number; 0 of none.
    """
    sums = np.zeros(256, np.int64) + pair_counts
    return {number: int(sums[number]) for number in np.flatnonzero(sums).tolist()}


def vocabulary_sizes(
    histograms: Mapping[int, Histograms], size: int, texts: Mapping[int, int]
) -> dict[int, int]:
    """How many n-grams of each language are in the vocabulary, by its number.

    `size` is of English, or where there is none, of the language with the most n-grams. In each
    other language about the same share of texts keeps all of its n-grams: where a text has m
    n-grams and a share s of their occurrences is in the vocabulary, that share of texts goes with
    `s**m`.

    Args:
      texts: how many of each language the n-grams are of.
    """
    if not histograms:
        return {}
    every = {number: join_histograms(of_buckets) for number, of_buckets in histograms.items()}
    occurrences = {number: int((counts * n).sum()) for number, (counts, n) in every.items()}
    first = max(every, key=lambda number: (number == ENGLISH_NUMBER, occurrences[number], -number))
    share = _occurrences(*every[first], size) / max(1, occurrences[first])
    length = {number: occurrences[number] / max(1, texts.get(number, 0)) for number in every}
    return {
        number: size
        if number == first
        else _size_of(*every[number], share ** (length[first] / length[number]))
        for number in every
    }


def _occurrences(counts: Int64s, ngrams: Int64s, size: int) -> int:
    """How often the `size` most frequent n-grams occur."""
    rest = np.maximum(size - (np.cumsum(ngrams) - ngrams), 0)
    return int((np.minimum(rest, ngrams) * counts).sum())


def _size_of(counts: Int64s, ngrams: Int64s, share: float) -> int:
    """How many of the most frequent n-grams make up this share of all occurrences."""
    sums = np.cumsum(counts * ngrams)
    goal = share * int(sums[-1])
    place = min(int(np.searchsorted(sums, goal)), len(sums) - 1)
    before = int(sums[place]) - int(counts[place] * ngrams[place])
    within = min(int(ngrams[place]), int(np.ceil((goal - before) / counts[place])))
    return int(ngrams[:place].sum()) + max(0, within)
