"""Names of a dataset's classes, and the class of each label."""

import importlib.resources
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from alignset.train.errors import SettingsError, counted

# By the name of the dataset: which of ImageNet's classes it has, as a file of timm's. Those of A
# and R are the ones in the code that these sets were published with (hendrycks/natural-adv-examples
# and hendrycks/imagenet-r, eval.py); V2 and Sketch have all.
IMAGENETS = {
    "imagenet": "imagenet_synsets.txt",
    "imagenet-v2": "imagenet_synsets.txt",
    "imagenet-sketch": "imagenet_synsets.txt",
    "imagenet-a": "imagenet_a_synsets.txt",
    "imagenet-r": "imagenet_r_synsets.txt",
}
_SYNSET = re.compile(r"n\d{8}")
_MOST_CLASSES = 1 << 20


@dataclass(frozen=True)
class Classes:
    """The classes that a model chooses from.

    Attributes:
      names: of each, what a prompt says.
      number_of: of each label that a dataset may have, its class.
      of: where they come from, for errors and results.
      some: the dataset may have images of other classes, which do not count.
    """

    names: list[str]
    number_of: Mapping[str, int]
    of: str
    some: bool = False

    def has(self, label: str) -> bool:
        """Whether it is a class; where the classes are not some of the dataset's, it must be.

        Raises:
          SettingsError: it is none.
        """
        if self.some and label not in self.number_of:
            return False
        return self.number(label) >= 0

    def number(self, label: str) -> int:
        """Raises SettingsError where it is none of the classes."""
        number = self.number_of.get(label, self.number_of.get(plain(label)))
        if number is None:
            raise SettingsError(
                f"{label!r} of --data is not a class of {self.of}: take it out, or name its class "
                "in a file with --classes (a line LABEL, a tab, NAME for each class)"
            )
        return number


def plain(label: str) -> str:
    """A label as a name: without underscores, and however it is written."""
    return label.replace("_", " ").strip().casefold()


def find_classes(where: str, labels: Sequence[str] | None, language: str = "") -> Classes:
    """The classes that `where` names: a dataset of ImageNet's, a file, or, empty, the labels' own.

    Args:
      labels: of the dataset, in order; None: only going through it would tell.
      language: of the names, where a file has several.

    Raises:
      SettingsError: there are none, two are called the same, or a label is none of them.
    """
    classes = _of_babel(Path(where), language) if where.endswith(".json") else _find(where, labels)
    if len(classes.names) < 2:
        count = counted(len(classes.names), "class", "classes")
        raise SettingsError(f"{classes.of} has {count}; there must be two")
    for label in labels or ():
        classes.has(label)
    return classes


def babel_languages(where: str) -> list[str]:
    """The languages of a file of names as Babel-ImageNet's; none of any other."""
    return [code.lower() for code in _read_babel(Path(where))] if where.endswith(".json") else []


def _read_babel(path: Path) -> dict[str, tuple[list[int], list[str]]]:
    """By language in capitals, the numbers of ImageNet's classes and their names.

    Raises:
      SettingsError: it can't be read, or isn't as the file that Babel-ImageNet publishes.
    """
    try:
        by_code = {}
        for code, (numbers, names) in json.loads(path.read_bytes()).items():
            pairs = zip(numbers, names, strict=True)
            if not all(0 <= number < 1000 and name.strip() for number, name in pairs):
                raise ValueError(f"{code} has a number that is not a class, or an empty name")
            by_code[str(code).upper()] = (numbers, names)
        return by_code
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise SettingsError(
            f"{str(path)!r} can't be read ({error!s:.200}): a .json of --classes is as "
            "Babel-ImageNet's, with [numbers of ImageNet's classes, names] for each language"
        ) from error


def _of_babel(path: Path, language: str) -> Classes:
    """The classes of ImageNet that have a name in a language; images of others do not count."""
    by_code = _read_babel(path)
    if language.upper() not in by_code:
        has = ", ".join(sorted(by_code)[:20]).lower()
        raise SettingsError(f"{path} has no names in {language!r}: it has {has} ...")
    numbers, names = by_code[language.upper()]
    synsets = _synsets(IMAGENETS["imagenet"])
    number_of = {synsets[number]: i for i, number in enumerate(numbers)}
    number_of |= {str(number): i for i, number in enumerate(numbers)}
    return Classes(names, number_of, f"{path} in {language}", some=True)


def _find(where: str, labels: Sequence[str] | None) -> Classes:
    if where in IMAGENETS:
        return _of_imagenet(_synsets(IMAGENETS[where]), where)
    if where:
        return _of_file(Path(where))
    if labels is None:
        raise SettingsError(
            f"shards have numbers of classes and no names: name them with --classes (a file with "
            f"a line for each class, or {', '.join(IMAGENETS)})"
        )
    if labels and all(_SYNSET.fullmatch(label) for label in labels):
        unknown = sorted(set(labels) - set(_synsets(IMAGENETS["imagenet"])))
        if not unknown:  # a part of ImageNet is judged among its own classes
            return _of_imagenet([*labels], "the classes of ImageNet that --data has")
    names = [label.replace("_", " ").strip() for label in labels]
    return Classes(names, {label: i for i, label in enumerate(labels)}, "--data's folders")


@cache
def _synsets(file: str) -> tuple[str, ...]:
    return tuple(importlib.resources.files("timm.data").joinpath("_info", file).read_text().split())


@cache
def imagenet_names() -> dict[str, str]:
    """By synset, what CLIP calls the 1,000 classes, and the paper after it.

    Source: Radford et al., 2021, the notebook on prompts of its repository.
    """
    text = Path(__file__).with_name("imagenet_classes.txt").read_text(encoding="utf-8")
    return dict(zip(_synsets(IMAGENETS["imagenet"]), text.splitlines(), strict=True))


def _of_imagenet(synsets: Sequence[str], of: str) -> Classes:
    """Labels may be synsets, or numbers among all classes that the dataset has."""
    names = imagenet_names()
    number_of = {synset: i for i, synset in enumerate(synsets)}
    number_of |= {str(i): i for i in range(len(synsets))}
    return Classes([names[synset] for synset in synsets], number_of, of)


def _of_file(path: Path) -> Classes:
    """A line for each class: its name, or a label of the dataset, a tab, and its name."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{str(path)!r} can't be read ({error}): --classes is a file with a line for each "
            f"class, or one of {', '.join(IMAGENETS)}"
        ) from error
    lines = [line for line in lines if line.strip()]
    if len(lines) > _MOST_CLASSES:
        raise SettingsError(f"{path} has {len(lines)} lines: that are too many for classes")
    number_of: dict[str, int] = {}
    names = []
    for i, line in enumerate(lines):
        label, tab, name = line.partition("\t")
        names.append((name if tab else label).strip())
        if number_of.setdefault(label.strip() if tab else plain(label), i) != i:
            raise SettingsError(f"{path} has {label.strip()!r} twice: each class has one line")
    for i in range(len(names)):
        number_of.setdefault(str(i), i)
    return Classes(names, number_of, str(path))
