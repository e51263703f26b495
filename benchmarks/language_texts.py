"""Short texts whose language is known, out of what packages ship; for `language.py`.

- Message catalogues of Django, Django REST framework and django-allauth, 90 languages. What is not
  translated, or reads the same in English, is left out. English are the messages' ids.
- Names of emoji (Unicode's, in the package `emoji`), 14 languages: "person feeding baby".
- English only: what CLIP asks of ImageNet, "a bad photo of a great white shark." (`open_clip`).
"""

import html
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from gettext import GNUTranslations
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path

CATALOGUES = ("django", "rest_framework", "allauth")
MIN_WORDS, MAX_WORDS = 3, 20
# Their texts have no spaces between words: as long as the English that they translate.
UNSPACED = {"zh", "ja", "th", "km", "my"}
ONE_CODE = {"nb": "no"}  # how the detectors call it
# Named fields, printf's, roles of reStructuredText, tags; and what is no text but an address.
FIELDS = re.compile(r"%\(\w*\)-?\w|%[-#.\d]*[a-z]\b|\{[^{}]*\}|:[\w:]+:`[^`]*`|</?\w[^<>]*>")
NO_TEXT = re.compile(r"[{}<>`|\\=_@]|%|://|\w\.\w+\.\w|\w\(\)")


@dataclass(frozen=True)
class LabelledText:
    """A text of 3 to 20 words: its language (ISO 639), where it is from, how many words."""

    text: str
    language: str
    kind: str  # "messages", "emoji" or "photos"
    words: int


def labelled_texts(catalogues: Iterable[str] = CATALOGUES) -> list[LabelledText]:
    """All of them: each text once in its language, and none that English has too."""
    kinds = {"messages": _messages(catalogues), "emoji": _emoji(), "photos": _photos()}
    return labelled((kind, *pair) for kind, pairs in kinds.items() for pair in pairs)


def labelled(rows: Iterable[tuple[str, str, str, str]]) -> list[LabelledText]:
    """Those of 3 to 20 words out of (kind, language, English, text), each once in its language."""
    every = list(rows)
    english = {text.casefold() for _, code, _, text in every if code == "en"}
    texts: dict[tuple[str, str], LabelledText] = {}
    for kind, code, original, text in every:
        folded = text.casefold()
        if code != "en" and folded in english:
            continue
        words = len((original if code in UNSPACED else text).split())
        if MIN_WORDS <= words <= MAX_WORDS and any(c.isalpha() for c in text):
            texts.setdefault((code, folded), LabelledText(text, code, kind, words))
    return sorted(
        texts.values(), key=lambda labelled: (labelled.language, labelled.kind, labelled.text)
    )


def _messages(catalogues: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """(language, English, text) of every message; English itself once for each id."""
    for name in catalogues:
        spec = find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise SystemExit(f"the package {name} is not installed: it is in the dev extra")
        yield from messages_of(Path(spec.submodule_search_locations[0]).rglob("*.mo"))


def messages_of(catalogues: Iterable[Path], key_mark: str = "") -> Iterator[tuple[str, str, str]]:
    """(language, English, text) of every message of compiled catalogues, LANGUAGE/LC_MESSAGES/*.mo;
    English itself once for each id.

    Args:
      key_mark: what menus have before the letter that is their key, as in "_Unsharp Mask".
    """
    for path in sorted(catalogues):
        code = re.split("[_@.]", path.parts[-3])[0].lower()
        for key, translation in _catalogue(path).items():
            message = key if isinstance(key, str) else key[0]
            original, text = (cleaned(t.replace(key_mark, "")) for t in (message, translation))
            if original:
                yield "en", original, original
            if original and text and code != "en":
                yield ONE_CODE.get(code, code), original, text


def _catalogue(path: Path) -> dict[str | tuple[str, int], str]:
    with path.open("rb") as file:
        try:
            return GNUTranslations(file)._catalog  # type: ignore[attr-defined]
        except IndexError:  # a header without plural forms
            return {}


def cleaned(text: str) -> str:
    """A message without its fields and tags; empty where it is none in words."""
    text = FIELDS.sub(" ", html.unescape(text.rpartition("\x04")[2]))
    text = " ".join(re.sub(r"[“”„«»\"]|''|\(\s*\)|\[\s*\]", " ", text).split())
    text = re.sub(r" (?=[.,;:!?)])|(?<=\() ", "", text).strip(" :;,-–—")
    return "" if NO_TEXT.search(text) else text


def _emoji() -> Iterator[tuple[str, str, str]]:
    import emoji

    codes = sorted(code for code in emoji.LANGUAGES if code != "alias")
    emoji.config.load_language(codes)
    for sign, names in emoji.EMOJI_DATA.items():
        original = _emoji_name(names["en"])
        if "skin tone" in original or "\U0001f1e6" <= sign[0] <= "\U0001f1ff":
            continue  # the same again; or a flag, whose name is a country's
        for code in codes:
            if code in names:
                yield code, original, _emoji_name(names[code])


def _emoji_name(name: str) -> str:
    return name.strip(":").replace("_", " ").strip()


def _photos() -> Iterator[tuple[str, str, str]]:
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES

    for number, name in enumerate(IMAGENET_CLASSNAMES):
        text = OPENAI_IMAGENET_TEMPLATES[number % len(OPENAI_IMAGENET_TEMPLATES)](name)
        yield "en", text, text


def captions(count: int) -> list[str]:
    """Distinct English captions: CLIP's templates with every class, then classes two by two."""
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES

    names = list(dict.fromkeys(IMAGENET_CLASSNAMES))
    asked = (template(name) for template in OPENAI_IMAGENET_TEMPLATES for name in names)
    pairs = (f"{a} next to a {b}" for b in names for a in names if a != b)
    return list(islice(dict.fromkeys(chain(asked, pairs)), count))
