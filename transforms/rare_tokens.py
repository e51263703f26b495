"""Alt-texts with an n-gram outside the vocabulary."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from transforms.hashing import HashSet, is_member
from transforms.measure import Pairs
from transforms.text_kernels import ngram_count

Bools = npt.NDArray[np.bool_]


@njit(nogil=True, cache=True)
def _find_rare(ngrams, first, word_count, alive, vocabulary, rare):  # type: ignore[no-untyped-def]
    # A few n-grams are most of all: those known to be members are kept within the cache.
    recent = np.zeros(1 << 14, np.uint64)
    recent[0] = 1  # no hash of this place is 1, but one is 0
    mask = np.uint64(len(recent) - 1)
    for row in range(len(rare)):
        rare[row] = False
        if alive[row]:
            for at in range(first[row], first[row] + ngram_count(word_count[row])):
                wanted = ngrams[at]
                if recent[wanted & mask] == wanted:
                    continue
                if not is_member(vocabulary, wanted):
                    rare[row] = True
                    break
                recent[wanted & mask] = wanted


def has_rare_token(pairs: Pairs, alive: Bools, vocabulary: HashSet) -> Bools:
    """Whether any n-gram of each text is outside the vocabulary: bool[n].

    Args:
      alive: bool[n], the pairs to ask about, since most of the work is here; others get False.

    Source: ALIGN (Jia et al., 2021), section 3, "rare tokens".
    """
    rare = np.empty(len(alive), np.bool_)
    of_texts = pairs.ngrams, pairs.first_ngram, pairs.word_count
    _find_rare(*of_texts, alive, vocabulary.table, rare)
    return rare
