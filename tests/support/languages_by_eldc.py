"""The language of one text by eldc's own function and by Python's strings, which the kernels
equal to the last bit."""

import re
from functools import lru_cache
from typing import NamedTuple

import eldc
from spellchecker import SpellChecker

from alignset.transforms.pairs.language import (
    FREQUENT,
    MOST_DOWN,
    MOST_UP,
    MOST_UP_AGAINST_FREQUENT,
    UNDETERMINED,
    langdetect_probability,
)
from alignset.transforms.pairs.languages import OF_ELDC, OF_LANGDETECT, LanguageRule

eldc.init()
_MODEL = eldc.instance()
_MODEL.set_scores(3)
_LETTERS = "[a-z\u00c0-\u1fff\u2c00-\ud7ff]+"
_WORD = re.compile(f"{_LETTERS}(?:['’]{_LETTERS})*")


class Mistaken(NamedTuple):
    """A text that is not in the wanted language: one row of `WrongLanguages`."""

    language: str
    score: float | None


def judged(identity: str) -> str:
    return identity[:240].replace("\0", " ")


def eldc_score(identity: str, language: str) -> tuple[float, str]:
    """The language's score against the strongest other, and the other."""
    by_language = _MODEL.detect_details(judged(identity)).scores
    own = by_language.pop(language, 0.0)
    rival = next(iter(by_language), UNDETERMINED)
    return own / (own + max(by_language.get(rival, 0.0), 0.2)), rival


def language_score(identity: str, language: str) -> tuple[float, str]:
    """As `eldc_score`, for English moved by the words."""
    score, rival = eldc_score(identity, language)
    if language != "en" or not score:
        return score, rival
    lean = english_lean(identity)
    if lean < 0:
        return max(score + lean * MOST_DOWN, 0.0), rival
    most = MOST_UP_AGAINST_FREQUENT if rival in FREQUENT else MOST_UP
    return min(score + lean * most, 1.0), rival


def english_lean(identity: str) -> float:
    """From -1, where no word is in the list, to 1, where all of at least three are."""
    words = [word for word in _WORD.findall(judged(identity)) if len(word) >= 3]
    if not words:
        return 0.0
    lean = 2 * (sum(word.replace("’", "'") in _english() for word in words) / len(words)) - 1
    return lean * min(len(words), 3) / 3 if lean > 0 else lean


@lru_cache(maxsize=1)
def _english() -> frozenset[str]:
    return frozenset(SpellChecker(language="en").word_frequency.words())


def mistaken_for(identity: str, rule: LanguageRule) -> Mistaken | None:
    """The language that a text is taken for if it is not the wanted one; None if it is."""
    score, rival = language_score(identity, rule.language)
    by_eldc = rule.language in OF_ELDC
    if by_eldc and score >= rule.min_score:
        return None
    asked = rule.language in OF_LANGDETECT and rule.language != "en"
    if asked and (score >= rule.min_unsure_score or not by_eldc):
        probability = langdetect_probability(judged(identity), rule.language)
        if probability >= rule.min_langdetect_probability:
            return None
    return Mistaken(rival, score if by_eldc else None)
