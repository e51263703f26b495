"""The language of each alt-text: whether it is English by eldc, with a list of English words
beside it, or which language by one of `DETECTORS`: the majority of three, or langdetect.

A detector reads a text's identity, so that all its spellings get one verdict, and only the first
240 characters. For a majority eldc and CLD2 (pycld2) are asked first, and py3langid where these two
do not agree. None of them is loaded before it is asked. `docs/languages.md` has the measurements.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.columns.hashing import string_buffers
from alignset.transforms.pairs.language_kernels import (
    JUDGED_CHARACTERS,
    eldc_model,
    english_words,
    score_languages,
)
from alignset.transforms.pairs.text_kernels import characters
from alignset.transforms.rules.language_codes import (
    ENGLISH,
    OF_ELDC,
    PART_OF,
    UNDETERMINED,
    VOTE,
    VOTED,
)
from alignset.transforms.rules.rule_settings import RuleSettings

# The score of a rival that eldc does not know. Without it, one English word made a Khmer text
# English. It keeps 7% fewer texts of other languages, and all English ones.
_UNKNOWN = 0.2

# By how much the words of a text move its score at most: up by less where eldc takes it for one of
# the languages that are frequent on the web and have words in the list ("par", "mit", "media").
MOST_DOWN = 0.1
MOST_UP = 0.1
MOST_UP_AGAINST_FREQUENT = 0.04
FREQUENT = ("de", "es", "fr", "it", "nl", "pt")

_MIN_ENGLISH_SCORE = 0.5  # eldc's vote for English, with its words, as of `--language=en`
_CODES = {code: PART_OF.get(code, code) for code in (*VOTED, *PART_OF)}

# A thread that comes while another loads a table would load it again.
_LOADING = Lock()


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
        word_list = english_words() if language == ENGLISH else np.zeros(0, np.uint64)
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
    place = OF_ELDC.index(language) if language in OF_ELDC else -1
    tables = tuple(characters())
    score_languages(string_buffers(texts), tables, tuple(model), place, word_list, room, out)
    own, rivals, others, leans = out[0].astype(np.float64), *out[1:]
    scores = own / (own + np.maximum(others.astype(np.float64), _UNKNOWN))
    if language == ENGLISH:
        frequent = np.isin(rivals, [OF_ELDC.index(name) for name in FREQUENT])
        most = np.where(leans < 0, MOST_DOWN, np.where(frequent, MOST_UP_AGAINST_FREQUENT, MOST_UP))
        scores = np.clip(scores + leans * most, 0.0, 1.0)
    return LanguageScores(scores, rivals)


class FoundLanguages(NamedTuple):
    """Rows of a column whose language was found: all by a detector; for English alone the others.

    Fields:
      rows: int64[k], ascending. languages: string[k], of `NUMBERED`.
      scores: float64[k], of English; null by a detector.
      votes: string[k], what each detector said, as "ja,ja" or "no,da,no"; null without one.
    """

    rows: npt.NDArray[np.int64]
    languages: pa.StringArray
    scores: pa.DoubleArray
    votes: pa.StringArray


def found_languages(texts: pa.StringArray, rule: RuleSettings) -> FoundLanguages:
    """The languages of texts, as far as a rule asks for them.

    Args:
      texts: string[n], alt-texts as kept, no nulls.
    """
    if rule.has_vote:
        languages, votes = detected_languages(texts, rule.voter)
        scores = pa.nulls(len(texts), pa.float64())
        return FoundLanguages(np.arange(len(texts)), languages, scores, votes)
    if not rule.languages:  # and eldc is not loaded
        none = pa.array([], pa.string())
        return FoundLanguages(np.zeros(0, np.int64), none, pa.array([], pa.float64()), none)
    found_scores, rivals = language_scores(texts, ENGLISH)
    rows = np.flatnonzero(found_scores < rule.min_language_score)
    languages = pa.array([*OF_ELDC, UNDETERMINED]).take(pa.array(rivals[rows]))
    votes = pa.nulls(len(rows), pa.string())
    return FoundLanguages(rows, languages, pa.array(found_scores[rows]), votes)


def detected_languages(
    texts: pa.StringArray, detector: str
) -> tuple[pa.StringArray, pa.StringArray]:
    """The language of each text by one of `DETECTORS`, or "und", and what was said: string[n].

    Each distinct text is judged once, by the first characters of its identity.
    """
    dictionary = texts.dictionary_encode()
    distinct = dictionary.dictionary
    # Case-folding changes each character by itself, so a long text can be cut before it.
    heads = pc.utf8_slice_codeunits(distinct, 0, JUDGED_CHARACTERS)
    heads = pc.replace_substring(heads, "\0", " ").to_pylist()  # as eldc's kernel reads it
    identities = [head.casefold()[:JUDGED_CHARACTERS] for head in heads]
    answers = DETECTORS[detector](distinct, identities)
    columns = (pa.array(column, pa.string()) for column in zip(*answers, strict=True))
    languages, votes = columns if answers else (pa.array([], pa.string()),) * 2
    return languages.take(dictionary.indices), votes.take(dictionary.indices)


def _vote_on_language(texts: pa.StringArray, identities: list[str]) -> list[tuple[str, str]]:
    """The language on which two of three detectors agree, and what they said."""
    scores, rivals = language_scores(texts, ENGLISH)
    labels = pa.array([*(PART_OF.get(code, code) for code in OF_ELDC), UNDETERMINED])
    by_eldc = labels.take(pa.array(rivals)).to_pylist()
    is_english = (scores >= _MIN_ENGLISH_SCORE).tolist()
    return [
        _vote(ENGLISH if english else label, identity)
        for english, label, identity in zip(is_english, by_eldc, identities, strict=True)
    ]


def _ask_langdetect(_: pa.StringArray, identities: list[str]) -> list[tuple[str, str]]:
    """The likeliest language. It depends on the text alone: langdetect draws n-grams at random,
    here from the same seed for each text, and the profiles have one order on all machines."""
    from langdetect import LangDetectException

    with _LOADING:
        factory, answers = _load_langdetect(), []
    for identity in identities:
        detector = factory.create()
        detector.append(identity)
        try:
            code = str(detector.detect()).partition("-")[0]  # zh-tw
        except LangDetectException:  # it has no letters
            code = ""
        answers.append((_CODES.get(code, UNDETERMINED),) * 2)
    return answers


@lru_cache(maxsize=1)  # 66 MB of profiles, in 0.5 s; a short text takes 1 ms under the lock
def _load_langdetect() -> Any:
    from langdetect import DetectorFactory
    from langdetect.detector_factory import PROFILES_DIRECTORY

    profiles = sorted(path for path in Path(PROFILES_DIRECTORY).iterdir() if path.is_file())
    factory = DetectorFactory()
    factory.load_json_profile([path.read_text(encoding="utf-8") for path in profiles])
    factory.set_seed(0)
    return factory


Detector = Callable[[pa.StringArray, list[str]], list[tuple[str, str]]]
# The values of --language_detector: distinct texts as they are kept, and the beginnings of their
# identities, to each text's language and what is written down of how it was found.
DETECTORS: dict[str, Detector] = {VOTE: _vote_on_language, "langdetect": _ask_langdetect}


def _vote(by_eldc: str, identity: str) -> tuple[str, str]:
    by_cld2 = _ask_cld2(identity)
    if by_eldc == by_cld2:
        return by_eldc, f"{by_eldc},{by_cld2}"
    with _LOADING:  # or threads that come first would each load the model
        classify = _load_py3langid()
    third = _CODES.get(classify(identity)[0], UNDETERMINED)
    winner = third if third in (by_eldc, by_cld2) else UNDETERMINED
    return winner, f"{by_eldc},{by_cld2},{third}"


def _ask_cld2(identity: str) -> str:
    import pycld2

    try:
        answer = pycld2.detect(identity, isPlainText=True, bestEffort=True)
    except pycld2.error:  # it refuses control characters, which it calls invalid UTF-8
        printable = "".join(letter if letter.isprintable() else " " for letter in identity)
        try:
            answer = pycld2.detect(printable, isPlainText=True, bestEffort=True)
        except pycld2.error:
            return UNDETERMINED
    return _CODES.get(answer[2][0][1], UNDETERMINED)


@lru_cache(maxsize=1)
def _load_py3langid() -> Callable[[str], Any]:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE).classify
