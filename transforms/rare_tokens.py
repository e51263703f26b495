"""Alt-texts with an n-gram outside the vocabulary."""

from __future__ import annotations

import numpy as np

from transforms.hashing import Bools, HashSet, is_member, kernel
from transforms.measure import Pairs
from transforms.text_kernels import ngram_count
from transforms.texts import measure_texts

_SEEN_BITS = 16  # places for members that were found last: two look-ups of three end there


@kernel
def _find_rare(texts, alive, vocabulary, seen, rare):  # type: ignore[no-untyped-def]
    ngrams, first, word_count = texts
    for row in range(len(rare)):
        rare[row] = False
        if alive[row]:
            for at in range(first[row], first[row] + ngram_count(word_count[row])):
                ngram = ngrams[at]
                place = ngram >> np.uint64(64 - _SEEN_BITS)
                if seen[place] != ngram:
                    if not is_member(vocabulary, ngram):
                        rare[row] = True
                        break
                    seen[place] = ngram


def has_rare_token(pairs: Pairs, alive: Bools, vocabulary: HashSet) -> Bools:
    """Whether any n-gram of each text is outside the vocabulary: bool[n].

    Args:
      alive: bool[n], the pairs to ask about, since most of the work is here; others get False.

    Source: ALIGN (Jia et al., 2021), section 3, "rare tokens".
    """
    if not len(vocabulary):
        return alive & (pairs.word_count > 0)
    texts = pairs if pairs.has_ngrams else measure_texts(pairs.text, alive, trusted=True)
    seen = np.full(1 << _SEEN_BITS, vocabulary.members[0])  # any member: no place holds another
    rare = np.empty(len(alive), np.bool_)
    of_texts = texts.ngrams, texts.first_ngram, texts.word_count
    _find_rare(of_texts, alive, vocabulary.table, seen, rare)
    return rare
