"""Short titles of known language, out of what packages ship, and rules that may judge them; for
`language.py`.

Each kind is read where its package is installed, or unpacked below `--root`:

- docs, English: captions, headings and alt-texts of the HTML of scikit-image and scikit-learn
  (Debian's python-skimage-doc and python-sklearn-doc; BSD-3-Clause).
- names, English: classes and functions of scikit-image, scikit-learn and matplotlib (in the dev
  extra; BSD-3-Clause and matplotlib's own), "Hist Gradient Boosting Classifier".
- stamps: captions of pictures, in 77 languages (tuxpaint-stamps-default; GPL-2).
- menus: GIMP's messages, in 80 languages (gimp-data; GPL-3): up to 600 of each but English.
- places: countries, currencies and scripts, in 140 languages (iso-codes; LGPL-2.1).
- products: names of devices that have no language (pci.ids; GPL-2 or BSD-3-Clause).
"""

import ast
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from language_detectors import optional_detectors
from language_texts import ONE_CODE, LabelledText, cleaned, labelled, messages_of

from alignset.transforms.pairs.language import (
    MOST_DOWN,
    eldc_score,
    english_lean,
    langdetect_probability,
    language_score,
)
from alignset.transforms.pairs.languages import LanguageRule

NAMED_PACKAGES = ("skimage", "sklearn", "matplotlib")
DOCUMENTS = ("python-skimage-doc", "python-sklearn-doc")
PLACES = ("iso_3166-1.mo", "iso_3166-3.mo", "iso_4217.mo", "iso_15924.mo")
MOST_MENUS = 600
NAME = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

Rows = Iterable[tuple[str, str, str]]  # language, English, text
Bools = np.ndarray


def titles(root: Path) -> dict[str, list[LabelledText]]:
    """By kind, the titles of 3 to 20 words of the packages that are there."""
    locale = root / "usr/share/locale"
    sources: dict[str, Rows] = {
        "docs": _documents(root / "usr/share/doc" / name for name in DOCUMENTS),
        "names": _names(),
        "stamps": _stamps(root / "usr/share/tuxpaint/stamps"),
        "menus": messages_of(locale.glob("*/LC_MESSAGES/gimp20*.mo"), "_"),
        "places": messages_of(p for p in locale.glob("*/LC_MESSAGES/*.mo") if p.name in PLACES),
        "products": _products(root / "usr/share/misc/pci.ids"),
    }
    texts = {kind: labelled((kind, *row) for row in rows) for kind, rows in sources.items()}
    texts["menus"] = _sampled(texts["menus"])
    return {kind: its for kind, its in texts.items() if its}


def _documents(folders: Iterable[Path]) -> Iterator[tuple[str, str, str]]:
    from lxml import html

    shown = "//h1|//h2|//h3|//h4|//figcaption|//*[contains(@class, 'caption-text')]"
    for path in (path for folder in folders for path in sorted(folder.rglob("*.html"))):
        page = html.fromstring(path.read_bytes())
        texts = [element.text_content() for element in page.xpath(shown)]
        for text in [*texts, *page.xpath("//img/@alt")]:
            bare = re.sub(r"[¶\uf0c1]|^\s*[\d.]+\s", " ", text)
            if title := cleaned(" ".join(bare.split())):
                yield "en", title, title


def _names() -> Iterator[tuple[str, str, str]]:
    for package in NAMED_PACKAGES:
        spec = find_spec(package)
        for folder in spec.submodule_search_locations or [] if spec else []:
            for path in sorted(Path(folder).rglob("*.py")):
                if "tests" in path.parts:
                    continue
                for node in ast.parse(path.read_bytes()).body:
                    if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name[0] != "_":
                        name = " ".join(NAME.findall(node.name))
                        yield "en", name, name


def _stamps(folder: Path) -> Iterator[tuple[str, str, str]]:
    for path in sorted(folder.rglob("*.txt")):
        original, *lines = path.read_text("utf-8", "replace").splitlines() or [""]
        yield "en", original.strip(), original.strip()
        for line in lines:
            code, _, text = line.partition(".utf8=")
            code = re.split("[_@]", code)[0].lower()
            if text.strip() and code != "en":
                yield ONE_CODE.get(code, code), original, text.strip()


def _products(path: Path) -> Iterator[tuple[str, str, str]]:
    lines = path.read_text("utf-8", "replace").splitlines() if path.exists() else []
    for line in lines:
        if match := re.match(r"\t?[0-9a-f]{4}\s+(.*)", line):
            yield "en", match[1], match[1]


def _sampled(texts: list[LabelledText]) -> list[LabelledText]:
    by_language: dict[str, list[LabelledText]] = defaultdict(list)
    for one in texts:
        by_language[one.language].append(one)
    draw = random.Random(0).sample
    return [
        one
        for code, its in by_language.items()
        for one in (its if code == "en" else draw(its, min(MOST_MENUS, len(its))))
    ]


class Evidence:
    """What the rules know of texts: arrays of n."""

    def __init__(self, texts: list[LabelledText]) -> None:
        identities = [one.text.casefold() for one in texts]
        scores = [eldc_score(identity, "en") for identity in identities]
        self.identities = identities
        self.eldc = np.array([score for score, _ in scores])
        self.ours = np.array([language_score(identity, "en")[0] for identity in identities])
        self.lean = np.array([english_lean(identity) for identity in identities])
        self.words = np.array([one.words for one in texts])
        self.english = np.array([one.language == "en" for one in texts])

    def where(self, asked: Bools, answer: Callable[[str], bool]) -> Bools:
        """bool[n]: `asked`, and the answer is yes."""
        told = np.zeros(len(asked), bool)
        for at in np.flatnonzero(asked):
            told[at] = answer(self.identities[at])
        return told


def rules_tried(rule: LanguageRule) -> dict[str, Callable[[Evidence], Bools]]:
    """By name, which texts each rule keeps as English."""

    def second(e: Evidence, low: float, answer: Callable[[str], bool]) -> Bools:
        return (e.eldc >= 0.5) | e.where((e.eldc >= low) & (e.eldc < 0.5), answer)

    def sure(text: str) -> bool:
        return langdetect_probability(text, "en") >= rule.min_langdetect_probability

    def words(e: Evidence, up: float, low: float = 0.5) -> Bools:
        return e.eldc + e.lean * np.where(e.lean > 0, up, MOST_DOWN) >= low

    rules: dict[str, Callable[[Evidence], Bools]] = {
        "eldc": lambda e: e.eldc >= 0.5,
        "eldc, langdetect from 0.49": lambda e: second(e, 0.49, sure),
        "eldc, langdetect from 0.44": lambda e: second(e, 0.44, sure),
        "eldc from 0.48": lambda e: e.eldc >= 0.48,
        "eldc from 0.45": lambda e: e.eldc >= 0.45,
        "eldc, 3 words from 0.45": lambda e: e.eldc >= np.where(e.words == 3, 0.45, 0.5),
        "eldc, all words English from 0.4": (
            lambda e: e.eldc >= np.where((e.lean == 1) & (e.eldc >= 0.4), 0.4, 0.5)
        ),
        "words, 0.1 up": lambda e: words(e, 0.1),
        "words, 0.04 up": lambda e: words(e, 0.04),
        "words, none up": lambda e: words(e, 0.0),
        "ours, from 0.48": lambda e: e.ours >= 0.48,
        "ours, from 0.49": lambda e: e.ours >= 0.49,
        "ours": lambda e: e.ours >= 0.5,
        "ours, from 0.51": lambda e: e.ours >= 0.51,
        "ours, langdetect from 0.49": (
            lambda e: (e.ours >= 0.5) | e.where((e.ours >= 0.49) & (e.ours < 0.5), sure)
        ),
    }
    for name, detect in optional_detectors():
        rules[f"eldc, {name} from 0.44"] = lambda e, detect=detect: second(
            e, 0.44, lambda text: detect(text) == "en"
        )
    return rules


def title_table(texts: dict[str, list[LabelledText]], rule: LanguageRule) -> list[dict[str, Any]]:
    """By rule and kind, percent of English kept, and of the others where there are any."""
    evidence = {kind: Evidence(its) for kind, its in texts.items()}
    rows = []
    for name, keep in rules_tried(rule).items():
        row: dict[str, Any] = {"rule": name}
        for kind, e in evidence.items():
            kept = keep(e)
            row[kind] = f"{100 * kept[e.english].mean():.1f}"
            if not e.english.all():
                row[kind] += f" / {100 * kept[~e.english].mean():.2f}"
        rows.append(row)
    return rows
