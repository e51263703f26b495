"""Whether an alt-text is in English: by eldc, with a list of English words beside it.

The detector reads a text's identity, so that all its spellings get one verdict, and only the first
240 characters. `docs/languages.md` has the measurements behind this and the threshold.
"""

from __future__ import annotations

from threading import Lock
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from alignset.transforms.columns.hashing import string_buffers
from alignset.transforms.pairs.language_kernels import score_languages
from alignset.transforms.pairs.language_tables import eldc_model, english_words
from alignset.transforms.pairs.unicode_tables import characters
from alignset.transforms.rules.language_codes import ENGLISH, OF_ELDC, UNDETERMINED, LanguageRule

# What a language unknown to eldc may score, as if it were a rival: without, one English word among
# Khmer made the text English. Of texts in other languages 7% fewer are kept so, and all English is.
_UNKNOWN = 0.2

# By how much the words of a text move its score at most: up by less where eldc takes it for one of
# the languages that are frequent on the web and have words in the list ("par", "mit", "media").
MOST_DOWN = 0.1
MOST_UP = 0.1
MOST_UP_AGAINST_FREQUENT = 0.04
FREQUENT = ("de", "es", "fr", "it", "nl", "pt")

# A thread that comes while another loads a table would load it again.
_LOADING = Lock()


class WrongLanguages(NamedTuple):
    """The rows of a column that are not in English.

    Fields:
      rows: int64[k], ascending.
      languages: string[k], what they are taken for (ISO 639-1 or "und"), never English.
      scores: float64[k], their score (`language_scores`).
    """

    rows: npt.NDArray[np.int64]
    languages: pa.StringArray
    scores: pa.DoubleArray


class LanguageScores(NamedTuple):
    """How much each text of a column looks like a language.

    Fields:
      scores: float64[n], from 0 to 1, above 0.5 where no other language is as likely, 0 for all but
        the three likeliest by eldc, and where eldc does not know the language.
      rivals: int64[n], the strongest other, a place in `OF_ELDC`; its length where there is none.
    """

    scores: npt.NDArray[np.float64]
    rivals: npt.NDArray[np.int64]


def language_scores(texts: pa.StringArray, language: str) -> LanguageScores:
    """How much texts look like a language: a/(a + b), where a is the language's score by eldc and
    b the strongest other's. For English, its words move it.

    Args:
      texts: string[n], alt-texts as kept, no nulls.
    """
    rows = len(texts)
    with _LOADING:
        model = eldc_model()
        listed = english_words() if language == ENGLISH else np.zeros(0, np.uint64)
    out = (
        np.empty(rows, np.float32),
        np.empty(rows, np.int64),
        np.empty(rows, np.float32),
        np.empty(rows, np.float64),
    )
    room = (
        np.empty(1024, np.uint8),
        np.empty(1024, np.uint8),
        np.empty(256, np.uint64),
        np.empty(len(OF_ELDC), np.float32),
    )
    wanted = OF_ELDC.index(language) if language in OF_ELDC else -1
    tables = tuple(characters())
    score_languages(string_buffers(texts), tables, tuple(model), wanted, listed, room, out)
    own, rivals, others, leans = out[0].astype(np.float64), *out[1:]
    scores = own / (own + np.maximum(others.astype(np.float64), _UNKNOWN))
    if language == ENGLISH:
        frequent = np.isin(rivals, [OF_ELDC.index(name) for name in FREQUENT])
        most = np.where(leans < 0, MOST_DOWN, np.where(frequent, MOST_UP_AGAINST_FREQUENT, MOST_UP))
        scores = np.clip(scores + leans * most, 0.0, 1.0)
    return LanguageScores(scores, rivals)


def wrong_languages(texts: pa.StringArray, rule: LanguageRule) -> WrongLanguages:
    """The rows that are not in English, by a rule without a vote.

    Args:
      texts: string[n], alt-texts as kept, no nulls.
    """
    if not rule.languages:
        none = np.zeros(0, np.int64)
        return WrongLanguages(none, pa.array([], pa.string()), pa.array([], pa.float64()))
    scores, rivals = language_scores(texts, ENGLISH)
    rows = np.flatnonzero(scores < rule.min_score)
    languages = pa.array([*OF_ELDC, UNDETERMINED]).take(pa.array(rivals[rows]))
    return WrongLanguages(rows, languages, pa.array(scores[rows]))
