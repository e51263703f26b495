"""Which languages can be wanted, and what is asked of a text's language. Nothing here loads a
detector, so that flags are checked without one."""

from __future__ import annotations

from dataclasses import dataclass

# ISO 639-1. langdetect's zh-cn and zh-tw are zh here. A test compares these with the packages.
_OF_ELDC = (
    "am ar az be bg bn ca cs da de el en es et eu fa fi fr gu he hi hr hu hy is it ja ka kn ko ku "
    "lo lt lv ml mr ms nl no or pa pl pt ro ru sk sl sq sr sv ta te th tl tr uk ur vi yo zh"
)
_OF_LANGDETECT = (
    "af ar bg bn ca cs cy da de el en es et fa fi fr gu he hi hr hu id it ja kn ko lt lv mk ml mr "
    "ne nl no pa pl pt ro ru sk sl so sq sv sw ta te th tl tr uk ur vi zh"
)
OF_ELDC, OF_LANGDETECT = tuple(_OF_ELDC.split()), frozenset(_OF_LANGDETECT.split())
LANGUAGES = tuple(sorted({*OF_ELDC, *OF_LANGDETECT}))

# The one language whose words are looked up. By the lists of other languages that the package has,
# many texts were lost: in Russian, which is inflected, every fifth.
ENGLISH = "en"


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
