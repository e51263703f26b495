"""The language of alt-texts: by eldc, with a list of English words beside it, and for the other
languages by langdetect with a fixed seed where eldc is unsure.

What is judged is a text's identity, so that all its spellings get one verdict, and of that the
first 240 characters. `docs/language.md` has the measurements behind this and the thresholds.
"""

from __future__ import annotations

import re
from functools import lru_cache
from string import ascii_lowercase
from threading import Lock
from typing import Any, NamedTuple

import eldc
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.pairs.languages import ENGLISH, OF_ELDC, OF_LANGDETECT, LanguageRule

UNDETERMINED = "und"  # ISO 639-2: a text without letters, such as "1920 x 1080"
JUDGED_CHARACTERS = 240  # at most 960 bytes of UTF-8; eldc reads 1000

_CHINESE = {"zh-cn": "zh", "zh-tw": "zh"}  # langdetect's codes; eldc has one for both scripts

eldc.init()
_MODEL = eldc.instance()  # its settings are its own: nobody else's calls change them
_MODEL.set_scores(3)  # 1 million texts a second; with all 20, half of that
# What a language unknown to it may score, as if it were a rival: without, one English word among
# Khmer made the text English. Of texts in other languages 7% fewer are kept so, and all English is.
_UNKNOWN = 0.2

# By how much the words of a text move its score at most: up by less where eldc takes it for one of
# the languages that are frequent on the web and have words in the list ("par", "mit", "media").
MOST_DOWN = 0.1
MOST_UP = 0.1
MOST_UP_AGAINST_FREQUENT = 0.04
FREQUENT = frozenset(("de", "es", "fr", "it", "nl", "pt"))
# Of every script, with its marks: not the ranges of punctuation, signs and emoji.
_LETTERS = "[a-z\u00c0-\u1fff\u2c00-\ud7ff]+"
WORD = re.compile(f"{_LETTERS}(?:['’]{_LETTERS})*")
# Most texts are ASCII without an apostrophe: splitting their bytes takes an eighth of the pattern's
# time, which was twice the time of eldc itself.
_LETTERS_ONLY = bytes(code if chr(code) in ascii_lowercase else ord(" ") for code in range(256))
# "de", "la", "an" and "me" are in the list too, and in the texts of every language.
_MIN_LETTERS = 3
_ENOUGH_WORDS = 3  # fewer say less: "mani unite", "il y a minutes"

# A thread that comes while another loads the profiles would judge by those already there, and one
# that comes while another loads the words would load them again.
_LOADING = Lock()


class WrongLanguages(NamedTuple):
    """The rows of a column whose language is not the wanted one.

    Fields:
      rows: int64[k], ascending.
      languages: string[k], what they are taken for (ISO 639-1 or "und"), never the wanted one.
      scores: float64[k], their `language_score`; null where eldc does not know the wanted language.
    """

    rows: npt.NDArray[np.int64]
    languages: pa.StringArray
    scores: pa.DoubleArray


class Mistaken(NamedTuple):
    """A text that is not in the wanted language: one row of `WrongLanguages`."""

    language: str
    score: float | None


def eldc_score(identity: str, language: str) -> tuple[float, str]:
    """a/(a + b), where a is the language's score and b that of the strongest other, and the other.

    0 for all but the three likeliest, and "und" where there is no other.
    """
    by_language = _MODEL.detect_details(_judged(identity)).scores
    own = by_language.pop(language, 0.0)
    rival = next(iter(by_language), UNDETERMINED)
    return own / (own + max(by_language.get(rival, 0.0), _UNKNOWN)), rival


def language_score(identity: str, language: str) -> tuple[float, str]:
    """How much a text looks like a language, by eldc, and for English by its words too.

    Returns:
      from 0 to 1, above 0.5 where no other language is as likely, 0 for all but the three likeliest
      by eldc; and the strongest other, "und" where there is none.
    """
    score, rival = eldc_score(identity, language)
    return _with_words(score, rival, identity, language), rival


def _with_words(score: float, rival: str, identity: str, language: str) -> float:
    if language != ENGLISH or not score:
        return score
    lean = english_lean(identity)
    if lean < 0:
        return max(score + lean * MOST_DOWN, 0.0)
    most = MOST_UP_AGAINST_FREQUENT if rival in FREQUENT else MOST_UP
    return min(score + lean * most, 1.0)


def english_lean(identity: str) -> float:
    """Whether a text's words are in the list of English words: from -1, where none is, to 1, where
    all of at least three are; 0 where as many are as are not, and where there are none.

    Words are runs of at least three letters, with apostrophes within: no numbers, no "GT218M".
    """
    words = long_words(_judged(identity))
    if not words:
        return 0.0
    share = sum(map(_english_words().__contains__, words)) / len(words)
    lean = 2 * share - 1
    return lean * min(len(words), _ENOUGH_WORDS) / _ENOUGH_WORDS if lean > 0 else lean


def long_words(text: str) -> list[bytes]:
    """The words of a text with at least three letters, in UTF-8."""
    if text.isascii() and "'" not in text:
        words = text.encode().translate(_LETTERS_ONLY).split()
        return [word for word in words if len(word) >= _MIN_LETTERS]
    found = [word for word in WORD.findall(text) if len(word) >= _MIN_LETTERS]
    return [word.replace("’", "'").encode() for word in found]


def _english_words() -> frozenset[bytes]:
    with _LOADING:
        return _load_english_words()


@lru_cache(maxsize=1)  # 160,000 words, in 0.17 s and 17 MB: only where English is wanted
def _load_english_words() -> frozenset[bytes]:
    from spellchecker import SpellChecker

    return frozenset(map(str.encode, SpellChecker(language=ENGLISH).word_frequency.words()))


@lru_cache(maxsize=10_000)  # 3.5 ms each, and the same menus and buttons come again in every batch
def langdetect_probability(identity: str, language: str) -> float:
    """The probability of a language by langdetect, the same at each call; 0 without letters."""
    with _LOADING:
        langdetect = _load_langdetect()
    try:
        guesses = langdetect.detect_langs(_judged(identity))
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


def _judged(identity: str) -> str:
    return identity[:JUDGED_CHARACTERS].replace("\0", " ")  # eldc would end there


def mistaken_for(identity: str, rule: LanguageRule) -> Mistaken | None:
    """The language that a text is taken for if it is not the wanted one; None if it is.

    English is told by its score alone. A language that eldc does not know is langdetect's alone to
    judge, and one that langdetect does not know is eldc's alone.
    """
    by_eldc, rival = eldc_score(identity, rule.language)
    score: float | None = None
    if rule.language in OF_ELDC:
        if by_eldc - MOST_DOWN >= rule.min_score:
            return None  # whatever its words are
        score = _with_words(by_eldc, rival, identity, rule.language)
        if score >= rule.min_score:
            return None
        asked = rule.language in OF_LANGDETECT and rule.language != ENGLISH
        if score < rule.min_unsure_score or not asked:
            return Mistaken(rival, score)
    probability = langdetect_probability(identity, rule.language)
    return None if probability >= rule.min_langdetect_probability else Mistaken(rival, score)


def wrong_languages(texts: pa.StringArray, rule: LanguageRule) -> WrongLanguages:
    """The rows whose language is not the wanted one.

    Args:
      texts: string[n], alt-texts as kept, no nulls. Each distinct identity is judged once.
    """
    if not rule.language:
        none = np.zeros(0, np.int64)
        return WrongLanguages(none, pa.array([], pa.string()), pa.array([], pa.float64()))
    # Case-folding changes each character by itself, so a long text can be cut before it.
    heads = pc.utf8_slice_codeunits(texts, 0, JUDGED_CHARACTERS).to_pylist()
    identities = [head.casefold()[:JUDGED_CHARACTERS] for head in heads]
    taken = {identity: mistaken_for(identity, rule) for identity in set(identities)}
    verdicts = [taken[identity] for identity in identities]
    rows = np.array([row for row, verdict in enumerate(verdicts) if verdict], np.int64)
    wrong = [verdict for verdict in verdicts if verdict]
    languages = pa.array([verdict.language for verdict in wrong], pa.string())
    return WrongLanguages(rows, languages, pa.array([v.score for v in wrong], pa.float64()))
