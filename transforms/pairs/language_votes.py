"""The language of each alt-text by the majority of three detectors.

eldc and CLD2 (pycld2) are asked first, and py3langid where these two do not agree. None of them is
loaded before it is asked. `docs/languages.md` has the measurements.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.pairs.language import language_scores, wrong_languages
from alignset.transforms.pairs.language_kernels import JUDGED_CHARACTERS
from alignset.transforms.rules.language_codes import (
    ENGLISH,
    OF_ELDC,
    PART_OF,
    UNDETERMINED,
    VOTED,
    LanguageRule,
)

_MIN_ENGLISH_SCORE = 0.5  # eldc's vote for English, with its words, as of `--language=en`
_CODES = {code: PART_OF.get(code, code) for code in (*VOTED, *PART_OF)}
_LOADING = Lock()


class FoundLanguages(NamedTuple):
    """Rows of a column whose language was found: all by the vote; for English alone the others.

    Fields:
      rows: int64[k], ascending. languages: string[k], of `NUMBERED`.
      scores: float64[k], of English; null by the vote.
      votes: string[k], what the detectors said, as "ja,ja" or "no,da,no"; null without a vote.
    """

    rows: npt.NDArray[np.int64]
    languages: pa.StringArray
    scores: pa.DoubleArray
    votes: pa.StringArray


def found_languages(texts: pa.StringArray, rule: LanguageRule) -> FoundLanguages:
    """The languages of texts, as far as a rule asks for them.

    Args:
      texts: string[n], alt-texts as kept, no nulls.
    """
    if rule.has_vote:
        languages, votes = voted_languages(texts)
        scores = pa.nulls(len(texts), pa.float64())
        return FoundLanguages(np.arange(len(texts)), languages, scores, votes)
    wrong = wrong_languages(texts, rule)
    return FoundLanguages(*wrong, pa.nulls(len(wrong.rows), pa.string()))


def voted_languages(texts: pa.StringArray) -> tuple[pa.StringArray, pa.StringArray]:
    """The language of each text by the vote, or "und", and what each detector said: string[n].

    Each distinct text is judged once, by the first characters of its identity.
    """
    encoded = texts.dictionary_encode()
    distinct = encoded.dictionary
    scores, rivals = language_scores(distinct, ENGLISH)
    labels = pa.array([*(PART_OF.get(code, code) for code in OF_ELDC), UNDETERMINED])
    by_eldc = labels.take(pa.array(rivals)).to_pylist()
    # Case-folding changes each character by itself, so a long text can be cut before it.
    heads = pc.utf8_slice_codeunits(distinct, 0, JUDGED_CHARACTERS)
    heads = pc.replace_substring(heads, "\0", " ").to_pylist()  # as eldc's kernel reads it
    voted = [
        _vote(ENGLISH if is_english else label, head.casefold()[:JUDGED_CHARACTERS])
        for is_english, label, head in zip(
            (scores >= _MIN_ENGLISH_SCORE).tolist(), by_eldc, heads, strict=True
        )
    ]
    columns = (pa.array(column, pa.string()) for column in zip(*voted, strict=True))
    languages, votes = columns if voted else (pa.array([], pa.string()),) * 2
    return languages.take(encoded.indices), votes.take(encoded.indices)


def _vote(by_eldc: str, identity: str) -> tuple[str, str]:
    by_cld2 = _by_cld2(identity)
    if by_eldc == by_cld2:
        return by_eldc, f"{by_eldc},{by_cld2}"
    third = _CODES.get(_py3langid()(identity)[0], UNDETERMINED)
    winner = third if third in (by_eldc, by_cld2) else UNDETERMINED
    return winner, f"{by_eldc},{by_cld2},{third}"


def _by_cld2(identity: str) -> str:
    import pycld2

    try:
        found = pycld2.detect(identity, isPlainText=True, bestEffort=True)
    except pycld2.error:  # it refuses control characters, which it calls invalid UTF-8
        shown = "".join(letter if letter.isprintable() else " " for letter in identity)
        try:
            found = pycld2.detect(shown, isPlainText=True, bestEffort=True)
        except pycld2.error:
            return UNDETERMINED
    return _CODES.get(found[2][0][1], UNDETERMINED)


def _py3langid() -> Callable[[str], Any]:
    with _LOADING:  # or threads that come first would each load the model
        return load_py3langid()


@lru_cache(maxsize=1)
def load_py3langid() -> Callable[[str], Any]:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE).classify
