"""The language of alt-texts, by langdetect with a fixed seed."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from langdetect import DetectorFactory, LangDetectException, detect
from langdetect.detector_factory import PROFILES_DIRECTORY, init_factory

LANGUAGES = tuple(sorted(path.name for path in Path(PROFILES_DIRECTORY).iterdir()))
UNDETERMINED = "und"  # ISO 639-2: a text without letters, such as "1920 x 1080"

DetectorFactory.seed = 0  # langdetect draws at random; one seed makes its answer a function

# A thread that comes while another loads the profiles would judge by those already there.
_LOADING = Lock()


@lru_cache(maxsize=100_000)
def language_of(text: str) -> str:
    """The most probable language of one text: an ISO 639-1 code as langdetect gives it
    ("zh-cn"), or "und" where it finds nothing to judge by."""
    with _LOADING:
        init_factory()
    try:
        return detect(text)
    except LangDetectException:
        return UNDETERMINED


def languages(texts: pa.StringArray) -> pa.StringArray:
    """The language of each text, each distinct text judged once: string[n] in and out."""
    distinct = pc.dictionary_encode(texts)
    answers = pa.array([language_of(t) for t in distinct.dictionary.to_pylist()], pa.string())
    return answers.take(distinct.indices)


def wrong_languages(texts: pa.StringArray, wanted: str) -> tuple[np.ndarray, pa.StringArray]:
    """The rows whose language is not the wanted one, and what it is.

    Args:
      texts: string[n], alt-texts as kept, no nulls.
      wanted: a language code; empty keeps all.

    Returns:
      int64[k] ascending row numbers, and string[k] their languages.
    """
    if not wanted:
        return np.zeros(0, np.int64), pa.array([], pa.string())
    found = languages(texts)
    rows = np.flatnonzero(pc.not_equal(found, wanted).to_numpy(zero_copy_only=False))
    return rows, found.take(pa.array(rows))
