"""The language of a text by langdetect, a port of Google's language-detection: 55 languages, 1 ms a
short text, under the interpreter's lock."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

_LOADING = Lock()  # a thread that comes while another loads the profiles would load them again


def langdetect_code(text: str) -> str:
    """The likeliest language of a text, by langdetect's code; empty for a text without letters.

    Depends on the text alone: langdetect draws n-grams at random, here from the same seed for each
    text, and the profiles have one order on all machines.
    """
    from langdetect import LangDetectException

    with _LOADING:
        detector = langdetect_factory().create()
    detector.append(text)
    try:
        return str(detector.detect())
    except LangDetectException:
        return ""


@lru_cache(maxsize=1)  # 66 MB, in 0.5 s
def langdetect_factory() -> Any:
    """Loads the profiles of all languages."""
    from langdetect import DetectorFactory
    from langdetect.detector_factory import PROFILES_DIRECTORY

    factory = DetectorFactory()
    profiles = sorted(path for path in Path(PROFILES_DIRECTORY).iterdir() if path.is_file())
    factory.load_json_profile([path.read_text(encoding="utf-8") for path in profiles])
    factory.set_seed(0)
    return factory
