"""The language of alt-texts: by eldc, and by langdetect with a fixed seed where eldc is unsure.

What is judged is a text's identity, so that all its spellings get one verdict, and of that the
first 240 characters. `docs/language.md` has the measurements behind this and the thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock

import eldc
import langdetect
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from langdetect.detector_factory import PROFILES_DIRECTORY, init_factory

UNDETERMINED = "und"  # ISO 639-2: a text without letters, such as "1920 x 1080"
JUDGED_CHARACTERS = 240  # at most 960 bytes of UTF-8; eldc reads 1000

_CHINESE = {"zh-cn": "zh", "zh-tw": "zh"}  # langdetect's codes; eldc has one for both scripts
_REFERENCE_LANGUAGES = frozenset(
    _CHINESE.get(path.name, path.name) for path in Path(PROFILES_DIRECTORY).iterdir()
)
_FAST_LANGUAGES = frozenset(eldc.LANGUAGES)
LANGUAGES = tuple(sorted(_FAST_LANGUAGES | _REFERENCE_LANGUAGES))  # ISO 639-1

eldc.init()
_MODEL = eldc.instance()  # its settings are its own: nobody else's calls change them
_MODEL.set_scores(3)  # 1 million texts a second; with all 20, half of that
# What a language unknown to it may score, as if it were a rival: without, one English word among
# Khmer made the text English. Of texts in other languages 7% fewer are kept so, and all English is.
_UNKNOWN = 0.2

langdetect.DetectorFactory.seed = 0  # it draws at random; one seed makes its answer a function
# A thread that comes while another loads the profiles would judge by those already there.
_LOADING = Lock()


@dataclass(frozen=True)
class LanguageRule:
    """Which texts are in the wanted language.

    Attributes:
      language: one of `LANGUAGES`; empty keeps all.
      min_score: a text that scores as much (`language_score`) is kept.
      min_unsure_score: one that scores less than that, but as much as this, is left to langdetect.
      min_langdetect_probability: it is kept if langdetect gives the language as much.
    """

    language: str
    min_score: float
    min_unsure_score: float
    min_langdetect_probability: float


def language_score(identity: str, language: str) -> tuple[float, str]:
    """How much a text looks like a language, by eldc: a/(a + b), where a is the language's score
    and b that of the strongest other.

    Returns:
      from 0 to 1, above 0.5 where no other is as likely, 0 for all but the three likeliest; and the
      strongest other, "und" where there is none.
    """
    by_language = _MODEL.detect_details(_judged(identity)).scores
    own = by_language.pop(language, 0.0)
    rival = next(iter(by_language), UNDETERMINED)
    return own / (own + max(by_language.get(rival, 0.0), _UNKNOWN)), rival


@lru_cache(maxsize=10_000)  # 3.5 ms each, and the same menus and buttons come again in every batch
def langdetect_probability(identity: str, language: str) -> float:
    """The probability of a language by langdetect, the same at each call; 0 without letters."""
    with _LOADING:
        init_factory()
    try:
        guesses = langdetect.detect_langs(_judged(identity))
    except langdetect.LangDetectException:
        return 0.0
    ours = (guess for guess in guesses if _CHINESE.get(guess.lang, guess.lang) == language)
    return float(sum(guess.prob for guess in ours))


def _judged(identity: str) -> str:
    return identity[:JUDGED_CHARACTERS].replace("\0", " ")  # eldc would end there


def mistaken_for(identity: str, rule: LanguageRule) -> str | None:
    """The language that a text is taken for if it is not the wanted one; None if it is.

    A language that eldc does not know is langdetect's alone to judge, and one that langdetect does
    not know is eldc's alone.
    """
    score, rival = language_score(identity, rule.language)
    if rule.language in _FAST_LANGUAGES:
        if score >= rule.min_score:
            return None
        if score < rule.min_unsure_score or rule.language not in _REFERENCE_LANGUAGES:
            return rival
    probability = langdetect_probability(identity, rule.language)
    return None if probability >= rule.min_langdetect_probability else rival


def wrong_languages(texts: pa.StringArray, rule: LanguageRule) -> tuple[np.ndarray, pa.StringArray]:
    """The rows whose language is not the wanted one, and what they are taken for.

    Args:
      texts: string[n], alt-texts as kept, no nulls. Each distinct identity is judged once.

    Returns:
      int64[k] ascending row numbers, and string[k] their languages (ISO 639-1 or "und"), never the
      wanted one.
    """
    if not rule.language:
        return np.zeros(0, np.int64), pa.array([], pa.string())
    # Case-folding changes each character by itself, so a long text can be cut before it.
    heads = pc.utf8_slice_codeunits(texts, 0, JUDGED_CHARACTERS).to_pylist()
    identities = [head.casefold()[:JUDGED_CHARACTERS] for head in heads]
    taken = {identity: mistaken_for(identity, rule) for identity in set(identities)}
    verdicts = pa.array([taken[identity] for identity in identities], pa.string())
    rows = np.flatnonzero(pc.is_valid(verdicts).to_numpy(zero_copy_only=False))
    return rows, verdicts.drop_null()
