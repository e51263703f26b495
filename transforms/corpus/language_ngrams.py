"""N-grams by language: each language hashes its own, and has its own part of the vocabulary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.columns.hashing import UInt64s, pair_hash, string_hashes
from alignset.transforms.columns.kernels import kernel
from alignset.transforms.corpus.hash_counts import Int64s
from alignset.transforms.pairs.measure_pairs import NGrams
from alignset.transforms.pairs.text_kernels import ngram_count
from alignset.transforms.rules.language_codes import ENGLISH, NUMBERED

ENGLISH_NUMBER = NUMBERED.index(ENGLISH) + 1  # of all texts, too, where no vote is taken
FITS = np.uint8(128)  # beside a number, of a pair whose text has as many words as it may
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


def by_language(table: pa.Table) -> Iterator[tuple[int, UInt64s, npt.NDArray[Any]]]:
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
      pair_counts: int64[256], how many with which number, with `FITS` or without; 0 of none.
    """
    sums = np.zeros(256, np.int64) + pair_counts
    sums = sums[: int(FITS)] + sums[int(FITS) :]
    return {number: int(sums[number]) for number in np.flatnonzero(sums).tolist()}


def shares_like(pair_counts: Int64s | int, like: str) -> dict[int, float]:
    """The share of each language's pairs that may stay, so that none has more than one has.

    Counted are pairs whose texts have as many words as they may, before other rules.

    Args:
      pair_counts: as of `texts_by_language`. like: the language that none exceeds.
    """
    fitting = (np.zeros(256, np.int64) + pair_counts)[int(FITS) :]
    most = int(fitting[NUMBERED.index(like) + 1])
    return {
        number: min(1.0, most / int(fitting[number])) for number in np.flatnonzero(fitting).tolist()
    }


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
    every = {number: _together(of_buckets) for number, of_buckets in histograms.items()}
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


def _together(histograms: Histograms) -> tuple[Int64s, Int64s]:
    """Distinct counts, descending, and how many n-grams have each, over all buckets."""
    counts = np.concatenate([counts for counts, _ in histograms.values()])
    values, places = np.unique(counts, return_inverse=True)
    ngrams = np.concatenate([n for _, n in histograms.values()])
    return values[::-1], np.bincount(places, ngrams).astype(np.int64)[::-1]


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
