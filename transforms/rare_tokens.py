"""Alt-texts with an n-gram outside the vocabulary."""

from __future__ import annotations

import numpy as np

from transforms.hashing import Bools, HashSet, is_member, kernel
from transforms.measure import Pairs
from transforms.text_kernels import ngram_count


@kernel
def _find_rare(ngrams, first, word_count, alive, vocabulary, rare):  # type: ignore[no-untyped-def]
    for row in range(len(rare)):
        rare[row] = False
        if alive[row]:
            for at in range(first[row], first[row] + ngram_count(word_count[row])):
                if not is_member(vocabulary, ngrams[at]):
                    rare[row] = True
                    break


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
