"""Which languages can be wanted, and what finds them. Nothing here loads a detector, so that flags
are checked without one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

# ISO 639-1, in the order of its model. A test compares these lists with the packages.
_OF_ELDC = (
    "am ar az be bg bn ca cs da de el en es et eu fa fi fr gu he hi hr hu hy is it ja ka kn ko ku "
    "lo lt lv ml mr ms nl no or pa pl pt ro ru sk sl sq sr sv ta te th tl tr uk ur vi yo zh"
)
# What at least two of eldc, CLD2 and py3langid know, ISO 639-1 or 639-3.
_VOTED = (
    "af am ar as az ba be bg bn br ca cs cy da de dz el en eo es et eu fa fi fo fr fy ga gd gl gn "
    "gu ha he hi hr ht hu hy ig is it ja jv ka kk km kn ko ku ky la lb lg ln lo lt lv mg mk ml mn "
    "mr ms mt my ne nl no nso oc om or pa pl ps pt qu ro ru rw sa si sk sl sn so sq sr st sv sw ta "
    "te tg th tk tl tr tt ug uk ur uz vi vo xh yo zh zu"
)
_OF_LANGDETECT = (
    "af ar bg bn ca cs cy da de el en es et fa fi fr gu he hi hr hu it ja kn ko lt lv mk ml mr ms "
    "ne nl no pa pl pt ro ru sk sl so sq sv sw ta te th tl tr uk ur vi zh"
)
OF_ELDC, VOTED = tuple(_OF_ELDC.split()), tuple(_VOTED.split())

VOTE = "vote"
# The values of --language_detector, and the languages that each finds, beside `UNDETERMINED`.
FOUND_BY = {VOTE: VOTED, "langdetect": tuple(_OF_LANGDETECT.split())}
ENGLISH = "en"
ALL = "all"  # as a flag's value
UNDETERMINED = "und"  # ISO 639-2: no two detectors agree, as of a text without letters
# By their numbers from 1 on. English is the first, as it is where no vote is taken.
NUMBERED = (ENGLISH, *(code for code in VOTED if code != ENGLISH), UNDETERMINED)

# Codes that are part of another: short texts in them cannot be told apart, or a detector has
# another code. Malay, Norwegian and Chinese are macrolanguages of ISO 639-3 that hold the others.
PART_OF = {
    **{"id": "ms", "bs": "hr", "nb": "no", "nn": "no", "yue": "zh", "wuu": "zh", "zh-Hant": "zh"},
    **{"iw": "he", "jw": "jv", "sr-ME": "sr", "gug": "gn", "sdh": "ku", "uzs": "uz"},
    **{"ary": "ar", "arz": "ar"},
}
# Languages of which more than a sixth of the texts are lost, and what most of these are taken for.
WEAK = {
    **{"af": "nl", "da": "no", "fo": "is", "gl": "es", "jv": "ms", "mk": "sr", "ne": "hi"},
    **{"nso": "st", "oc": "ca", "st": "nso", "xh": "zu", "zu": "xh"},
}
_MEANT = {
    **{"jp": "ja", "cn": "zh", "kr": "ko", "cz": "cs", "dk": "da", "gr": "el", "se": "sv"},
    **{"ua": "uk", "vn": "vi", "gb": "en", "us": "en", "br": "pt", "in": "hi", "ir": "fa"},
    **{"eng": "en", "deu": "de", "ger": "de", "fra": "fr", "fre": "fr", "spa": "es", "jpn": "ja"},
    **{"zho": "zh", "chi": "zh", "cmn": "zh", "kor": "ko", "tha": "th", "hin": "hi", "rus": "ru"},
    **{"ckb": "ku", "fil": "tl", "mo": "ro", "sh": "hr"},
}


_LIMITS = re.compile(r"([\w-]+)[:\s]\s*(\d{1,9})[-\s]\s*(\d{1,9})")


def voter_of(rules: Mapping[str, Any]) -> str:
    """Which of `FOUND_BY` finds the language of each text, by the flags of a run; empty where
    English alone is found by its score, and where all texts are kept.

    >>> [voter_of({"language": languages}) for languages in ("", "en", "en,de", "all")]
    ['', '', 'vote', 'vote']
    """
    languages, detector = wanted_languages(rules["language"]), rules.get("language_detector", "")
    if not languages or (languages == (ENGLISH,) and not detector):
        return ""
    return str(detector or VOTE)


def wanted_languages(flag: str) -> tuple[str, ...]:
    """The languages that a flag's value names, in the order of `NUMBERED`.

    Raises:
      ValueError: one is not known.
    """
    if not flag:
        return ()
    if flag == ALL:
        return NUMBERED
    codes = {_code_of(code.strip()) for code in flag.split(",")}
    return tuple(code for code in NUMBERED if code in codes)


def _code_of(code: str) -> str:
    code = PART_OF.get(code, code)
    if code in NUMBERED:
        return code
    base = code.lower().replace("_", "-").partition("-")[0]
    near = [base] if base in (*NUMBERED, *PART_OF) else difflib.get_close_matches(base, VOTED, 1)
    meant = _MEANT.get(code.lower()) or _MEANT.get(base) or (near[0] if near else "")
    did = f"did you mean {meant!r}? " if meant else ""
    raise ValueError(
        f"language {code!r} is not known: {did}pass all, a list such as de,fr,ja, or nothing to "
        f"keep all texts; the codes are {', '.join(VOTED)}, {UNDETERMINED}"
    )


def word_limits(words: str) -> dict[str, tuple[int, int]]:
    """The least and the most words of languages, as of "ja:2-30,fi 2 16" or a line each.

    Raises:
      ValueError: an entry cannot be read, or its language is not known.
    """
    limits: dict[str, tuple[int, int]] = {}
    for line in words.replace(",", "\n").split("\n"):
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        match = _LIMITS.fullmatch(entry)
        if match is None or int(match[2]) > int(match[3]):
            raise ValueError(
                f"words_per_language has {entry[:40]!r}, where a code with the least and the most "
                "words is expected, such as ja:2-30"
            )
        limits[_code_of(match[1])] = int(match[2]), int(match[3])
    return limits


def weak_points(flag: str, languages: Sequence[str]) -> str:
    """One line on languages among these that cannot be told from others well; or empty."""
    codes = {code.strip() for code in flag.split(",")}
    parts = [
        f"{part} is kept as {whole}"
        for part, whole in PART_OF.items()
        if part in codes and part not in languages
    ]
    if flag == ALL:
        parts = ["id, bs, nn and yue are ms, hr, no and zh"]
    if weak := [f"{code} ({WEAK[code]})" for code in languages if code in WEAK]:
        parts.append(f"many texts in {', '.join(weak)} are taken for the language in brackets")
    return "; ".join(parts)
