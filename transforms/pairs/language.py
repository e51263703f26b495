"""The language of alt-texts: by eldc, with a list of English words beside it, and for the other
languages by langdetect with a fixed seed where eldc is unsure.

What is judged is a text's identity, so that all its spellings get one verdict, and of that the
first 240 characters. `docs/language.md` has the measurements behind this and the thresholds.
"""

from __future__ import annotations

from functools import lru_cache
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.columns.hashing import string_buffers
from alignset.transforms.pairs.language_kernels import JUDGED_CHARACTERS, score_languages
from alignset.transforms.pairs.language_tables import eldc_model, english_words
from alignset.transforms.pairs.languages import ENGLISH, OF_ELDC, OF_LANGDETECT, LanguageRule
from alignset.transforms.pairs.unicode_tables import characters

UNDETERMINED = "und"  # ISO 639-2: a text without letters, such as "1920 x 1080"

_CHINESE = {"zh-cn": "zh", "zh-tw": "zh"}  # langdetect's codes; eldc has one for both scripts

# What a language unknown to eldc may score, as if it were a rival: without, one English word among
# Khmer made the text English. Of texts in other languages 7% fewer are kept so, and all English is.
_UNKNOWN = 0.2

# By how much the words of a text move its score at most: up by less where eldc takes it for one of
# the languages that are frequent on the web and have words in the list ("par", "mit", "media").
MOST_DOWN = 0.1
MOST_UP = 0.1
MOST_UP_AGAINST_FREQUENT = 0.04
FREQUENT = ("de", "es", "fr", "it", "nl", "pt")

# A thread that comes while another loads the profiles would judge by those already there, and one
# that comes while another loads a table would load it again.
_LOADING = Lock()


class WrongLanguages(NamedTuple):
    """The rows of a column whose language is not the wanted one.

    Fields:
      rows: int64[k], ascending.
      languages: string[k], what they are taken for (ISO 639-1 or "und"), never the wanted one.
      scores: float64[k], their score (`language_scores`); null where eldc does not know the wanted
        language.
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


@lru_cache(maxsize=10_000)  # 3.5 ms each, and the same menus and buttons come again in every batch
def langdetect_probability(identity: str, language: str) -> float:
    """The probability of a language by langdetect, the same at each call; 0 without letters."""
    with _LOADING:
        langdetect = _load_langdetect()
    try:
        guesses = langdetect.detect_langs(identity)
    except langdetect.LangDetectException:
        return 0.0
    ours = (guess for guess in guesses if _CHINESE.get(guess.lang, guess.lang) == language)
    return float(sum(guess.prob for guess in ours))


@lru_cache(maxsize=1)  # its profiles take a second: only where a language but English is wanted
def _load_langdetect() -> Any:
    import langdetect
    from langdetect.detector_factory import init_factory

    langdetect.DetectorFactory.seed = 0  # it draws at random; one seed makes its answer a function
    init_factory()
    return langdetect


def _by_langdetect(texts: pa.StringArray, rule: LanguageRule) -> npt.NDArray[np.bool_]:
    """bool[n]: which texts langdetect takes for the wanted language."""
    # Case-folding changes each character by itself, so a long text can be cut before it.
    heads = pc.utf8_slice_codeunits(texts, 0, JUDGED_CHARACTERS).to_pylist()
    identities = [head.casefold()[:JUDGED_CHARACTERS].replace("\0", " ") for head in heads]
    probabilities = [langdetect_probability(identity, rule.language) for identity in identities]
    return np.array(probabilities, np.float64) >= rule.min_langdetect_probability


def wrong_languages(texts: pa.StringArray, rule: LanguageRule) -> WrongLanguages:
    """The rows whose language is not the wanted one.

    English is told by its score alone. A language that eldc does not know is langdetect's alone to
    judge, and one that langdetect does not know is eldc's alone.

    Args:
      texts: string[n], alt-texts as kept, no nulls.
    """
    if not rule.language:
        none = np.zeros(0, np.int64)
        return WrongLanguages(none, pa.array([], pa.string()), pa.array([], pa.float64()))
    scores, rivals = language_scores(texts, rule.language)
    by_eldc = rule.language in OF_ELDC
    wrong = scores < rule.min_score if by_eldc else np.ones(len(texts), np.bool_)
    if rule.language in OF_LANGDETECT and rule.language != ENGLISH:
        asked = wrong & (scores >= rule.min_unsure_score) if by_eldc else wrong
        unsure = np.flatnonzero(asked)
        wrong[unsure] = ~_by_langdetect(texts.take(pa.array(unsure)), rule)
    rows = np.flatnonzero(wrong)
    languages = pa.array([*OF_ELDC, UNDETERMINED]).take(pa.array(rivals[rows]))
    unknown = np.full(len(rows), not by_eldc)
    return WrongLanguages(rows, languages, pa.array(scores[rows], pa.float64(), mask=unknown))
