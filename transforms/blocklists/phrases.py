"""Whether an alt-text has a word or a phrase of a list, by the hashes of its words."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from alignset.transforms.columns.hashing import Bools, UInt64s, pair_hash
from alignset.transforms.columns.kernels import kernel
from alignset.transforms.corpus.hash_sets import HashSet, is_member
from alignset.transforms.pairs.texts import Texts, measure_texts

LONGEST = 32  # words of a phrase


@kernel
def _chain(ngrams, first, words):  # type: ignore[no-untyped-def]
    """The hash of so many neighbouring words; for two it is the hash of their bigram."""
    value = ngrams[first]
    for word in range(1, words):
        value = pair_hash(value, ngrams[first + 2 * word - 1])
    return value


@kernel
def _has_phrase(ngrams, first, words, table, longest):  # type: ignore[no-untyped-def]
    for begin in range(words):
        at = first + max(0, 2 * begin - 1)
        value = ngrams[at]
        if is_member(table, value):
            return True
        for more in range(1, min(longest, words - begin)):
            value = pair_hash(value, ngrams[first + 2 * (begin + more) - 1])
            if is_member(table, value):
                return True
    return False


@kernel
def _mark(texts, table, longest, marks):  # type: ignore[no-untyped-def]
    ngrams, first, word_count = texts
    for row in range(len(marks)):
        marks[row] = _has_phrase(ngrams, first[row], word_count[row], table, longest)


def phrase_hashes(phrases: pa.StringArray) -> tuple[UInt64s, npt.NDArray[np.int32]]:
    """The hash of each phrase, uint64[n], and how many words it has, int32[n].

    Args:
      phrases: string[n], no nulls, valid UTF-8; read as alt-texts are.
    """
    texts = measure_texts(phrases, np.ones(len(phrases), np.bool_))
    hashes = [
        _chain(texts.ngrams, first, words) if words else 0
        for first, words in zip(texts.first_ngram, texts.word_count, strict=True)
    ]
    return np.array(hashes, np.uint64), texts.word_count


def has_any_phrase(texts: Texts, phrases: HashSet, longest: int) -> Bools:
    """Which texts have one of the phrases as neighbouring words: bool[n].

    Args:
      phrases: of the hashes of phrases. longest: how many words the longest of them has.
    """
    marks = np.empty(len(texts.word_count), np.bool_)
    _mark((texts.ngrams, texts.first_ngram, texts.word_count), phrases.table, longest, marks)
    return marks
