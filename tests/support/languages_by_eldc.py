"""The language of one text by eldc's own function and by Python's strings, which the kernels
equal to the last bit."""

import re
from collections import Counter
from functools import lru_cache
from typing import NamedTuple

import eldc
import py3langid
import pycld2
from spellchecker import SpellChecker

from alignset.transforms.pairs.language_votes import (
    FREQUENT,
    MOST_DOWN,
    MOST_UP,
    MOST_UP_AGAINST_FREQUENT,
)
from alignset.transforms.rules.language_codes import PART_OF, UNDETERMINED
from alignset.transforms.rules.rule_settings import RuleSettings

eldc.init()
_MODEL = eldc.instance()
_MODEL.set_scores(3)
_LETTERS = "[a-z\u00c0-\u1fff\u2c00-\ud7ff]+"
_WORD = re.compile(f"{_LETTERS}(?:['’]{_LETTERS})*")


class Mistaken(NamedTuple):
    """A text that is not in the wanted language: one row of `FoundLanguages`."""

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


def voted(identity: str) -> str:
    """The language on which two of eldc, CLD2 and py3langid agree, or "und"."""
    score, rival = language_score(identity, "en")
    head = judged(identity)
    shown = "".join(letter if letter.isprintable() else " " for letter in head)
    names = [
        "en" if score >= 0.5 else rival,
        pycld2.detect(shown, isPlainText=True, bestEffort=True)[2][0][1],
        py3langid.classify(head)[0],
    ]
    counts = Counter(PART_OF.get(name, name) for name in names)
    counts.pop("un", None)
    (name, count), *_ = counts.most_common(1)
    return name if count > 1 else UNDETERMINED


def mistaken_for(identity: str, rule: RuleSettings) -> Mistaken | None:
    """The language that a text is taken for if it is not a wanted one; None if it is."""
    if rule.has_vote:
        language = voted(identity)
        return None if language in rule.languages else Mistaken(language, None)
    score, rival = language_score(identity, "en")
    return Mistaken(rival, score) if rule.languages and score < rule.min_language_score else None
