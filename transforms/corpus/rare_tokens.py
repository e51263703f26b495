"""Alt-texts with an n-gram outside the vocabulary."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from alignset.transforms.columns.hashing import Bools, UInt64s
from alignset.transforms.columns.kernels import kernel
from alignset.transforms.corpus.hash_sets import HashSet, is_member
from alignset.transforms.corpus.language_ngrams import UInt8s, hash_with_language
from alignset.transforms.pairs.measure_pairs import NGrams, Pairs
from alignset.transforms.pairs.text_kernels import ngram_count
from alignset.transforms.pairs.texts import measure_texts

_SUSPECT_BITS = 22  # of a hash, so that the marks of all hashes are in the cache


@njit(inline="always")
def _mark_of(ngram):  # type: ignore[no-untyped-def]
    """The byte and the bit that tell of n-grams like this one."""
    place = ngram >> np.uint64(64 - _SUSPECT_BITS)
    return place >> np.uint64(3), np.uint8(1) << np.uint8(place & np.uint64(7))


@kernel
def _mark_suspects(ngrams, vocabulary, marks):  # type: ignore[no-untyped-def]
    for at in range(len(ngrams)):
        if not is_member(vocabulary, ngrams[at]):
            byte, bit = _mark_of(ngrams[at])
            marks[byte] |= bit


@kernel
def _find_rare(texts, alive, vocabulary, marks, rare):  # type: ignore[no-untyped-def]
    ngrams, first, word_count = texts
    for row in range(len(rare)):
        rare[row] = False
        if alive[row]:
            for at in range(first[row], first[row] + ngram_count(word_count[row])):
                byte, bit = _mark_of(ngrams[at])
                if marks[byte] & bit and not is_member(vocabulary, ngrams[at]):
                    rare[row] = True
                    break


def has_rare_token(
    pairs: Pairs,
    alive: Bools,
    vocabulary: HashSet,
    distinct: Sequence[UInt64s] | None = None,
    numbers: UInt8s | None = None,
) -> Bools:
    """Whether any n-gram of each text is outside the vocabulary: bool[n].

    Each distinct n-gram is looked up, in ascending order, and what is not found leaves a mark; of
    all others, which are most, a look at the marks is enough.

    Args:
      alive: bool[n], the pairs to ask about, all of which counted; others get False.
      distinct: as in `Remembered`, where they are known.
      numbers: of their languages, as for `hash_with_language`.

    Source: ALIGN (Jia et al., 2021), section 3, "rare tokens".
    """
    if not len(vocabulary):
        return alive & (pairs.word_count > 0)
    ngrams, words = pairs.ngrams, pairs.word_count
    if ngrams is None:
        texts = measure_texts(pairs.text, alive, words)
        ngrams, words = NGrams(texts.ngrams, texts.first_ngram), texts.word_count
    hash_with_language(ngrams, words, numbers)
    if distinct is None:
        distinct = [np.unique(ngrams.hashes)]
    marks = np.zeros(1 << (_SUSPECT_BITS - 3), np.uint8)
    for hashes in distinct:
        _mark_suspects(hashes, vocabulary.table, marks)
    rare = np.empty(len(alive), np.bool_)
    of_texts = ngrams.hashes, ngrams.first, words
    _find_rare(of_texts, alive, vocabulary.table, marks, rare)
    return rare
