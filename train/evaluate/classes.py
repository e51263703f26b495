"""Names of a dataset's classes, the class of each label, and the prompts that a name is put into.

A class is a vector: the mean of its prompts' embeddings.
"""

import importlib.resources
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

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
PLAIN = "a photo of a {}."
LOGIT_SCALE = 100.0  # changes no order; clip_benchmark multiplies by it, and so rounds as we do
_MOST_CLASSES, _MOST_PROMPTS = 1 << 20, 10_000
Vectors = npt.NDArray[np.floating]
Prompts = tuple[str, ...] | Mapping[str, tuple[str, ...]]  # of all classes, or of each by name


@dataclass(frozen=True)
class Classes:
    """The classes that a model chooses from.

    Attributes:
      names: of each, what a prompt says.
      number_of: of each label that a dataset may have, its class.
      source: where they come from, for errors.
      some: the dataset may have images of other classes, which do not count.
      prompts: what they are put into where no prompts are named, as `find_prompts` has it.
    """

    names: list[str]
    number_of: Mapping[str, int]
    source: str
    some: bool = False
    prompts: str = PLAIN

    def number(self, label: str) -> int:
        """The class of a label; -1: of another class, which does not count.

        Raises:
          SettingsError: it is none of the classes, and there are no others.
        """
        number = self.number_of.get(label, self.number_of.get(_plain(label), -1))
        if number < 0 and not self.some:
            raise SettingsError(
                f"{label!r} of --data is not a class of {self.source}: take it out, or name its "
                "class in a file with --classes (a line LABEL, a tab, NAME for each class)"
            )
        return number


def _plain(label: str) -> str:
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
    if where.endswith(".json"):
        classes = _babel_classes(where, language)
    elif where in IMAGENETS:
        classes = _imagenet_classes(_synsets(IMAGENETS[where]), where)
    elif where:
        classes = _read_classes(Path(where))
    elif labels is None:
        raise SettingsError(
            f"shards have numbers of classes and no names: name them with --classes (a file with "
            f"a line for each class, or {', '.join(IMAGENETS)})"
        )
    elif labels and {*labels} <= imagenet_names().keys():  # a part is judged among its own classes
        classes = _imagenet_classes(labels, "the classes of ImageNet that --data has")
    else:
        names = [label.replace("_", " ").strip() for label in labels]
        classes = Classes(names, {label: i for i, label in enumerate(labels)}, "--data's folders")
    if len(classes.names) < 2:
        count = counted(len(classes.names), "class", "classes")
        raise SettingsError(f"{classes.source} has {count}; there must be two")
    for label in labels or ():
        classes.number(label)
    return classes


def babel_languages(where: str) -> list[str]:
    """The languages of a file of names as Babel-ImageNet's; none of any other."""
    return [code.lower() for code in _read_babel(where)] if where.endswith(".json") else []


def _read_babel(where: str) -> dict[str, tuple[list[int], list[str]]]:
    """By language in capitals, the numbers of ImageNet's classes and their names.

    Raises:
      SettingsError: it can't be read, or isn't as the file that Babel-ImageNet publishes.
    """
    try:
        by_code = {}
        for code, (numbers, names) in json.loads(Path(where).read_bytes()).items():
            pairs = zip(numbers, names, strict=True)
            if not all(0 <= number < 1000 and name.strip() for number, name in pairs):
                raise ValueError(f"{code} has a number that is not a class, or an empty name")
            by_code[str(code).upper()] = (numbers, names)
        return by_code
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise SettingsError(
            f"{where!r} can't be read ({error!s:.200}): a .json of --classes is as "
            "Babel-ImageNet's, with [numbers of ImageNet's classes, names] for each language"
        ) from error


def _babel_classes(where: str, language: str) -> Classes:
    """The classes of ImageNet that have a name in a language; images of others do not count."""
    by_code = _read_babel(where)
    if language.upper() not in by_code:
        has = ", ".join(sorted(by_code)[:20]).lower()
        raise SettingsError(f"{where} has no names in {language!r}: it has {has} ...")
    numbers, names = by_code[language.upper()]
    synsets = _synsets(IMAGENETS["imagenet"])
    number_of = {synsets[number]: i for i, number in enumerate(numbers)}
    number_of |= {str(number): i for i, number in enumerate(numbers)}
    # An English sentence around a word of another language says little.
    return Classes(names, number_of, f"{where} in {language}", some=True, prompts="{}")


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


def _imagenet_classes(synsets: Sequence[str], source: str) -> Classes:
    """Labels may be synsets, or numbers among all classes that the dataset has."""
    names = imagenet_names()
    number_of = {synset: i for i, synset in enumerate(synsets)}
    number_of |= {str(i): i for i in range(len(synsets))}
    return Classes([names[synset] for synset in synsets], number_of, source, prompts="imagenet")


def _read_classes(path: Path) -> Classes:
    """A line for each class: its name, or a label of the dataset, a tab, and its name."""
    form = f"--classes is a file with a line for each class, or one of {', '.join(IMAGENETS)}"
    text = _read_text(str(path), f"{str(path)!r} can't be read", form)
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) > _MOST_CLASSES:
        raise SettingsError(f"{path} has {len(lines)} lines: that are too many for classes")
    number_of: dict[str, int] = {}
    names = []
    for i, line in enumerate(lines):
        label, tab, name = line.partition("\t")
        names.append((name if tab else label).strip())
        if number_of.setdefault(label.strip() if tab else _plain(label), i) != i:
            raise SettingsError(f"{path} has {label.strip()!r} twice: each class has one line")
    return Classes(names, {str(i): i for i in range(len(names))} | number_of, str(path))


def _read_text(where: str, wrong: str, form: str) -> str:
    try:
        return Path(where).read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise SettingsError(f"{wrong} ({error!s:.200}): {form}") from error


@cache
def published_prompts() -> dict[str, tuple[str, ...]]:
    """CLIP's by set, which the paper uses too; "imagenet" has 80.

    Source: Radford et al., 2021, prompts.md and the notebook on prompts of its repository.
    """
    text = Path(__file__).with_name("prompts.json").read_text(encoding="utf-8")
    return {name: tuple(prompts) for name, prompts in json.loads(text).items()}


def find_prompts(where: str) -> Prompts:
    """The prompts that `where` names: a dataset's, one sentence with {}, a file of such lines, a
    JSON list of them, or a JSON object with a list of sentences for each class, by its name.

    Raises:
      SettingsError: there are none; or one of all classes has no {} or several.
    """
    if where in published_prompts():
        return published_prompts()[where]
    prompts = (where,) if "{}" in where else _read_prompts(where)
    if isinstance(prompts, Mapping):
        return prompts
    wrong = next((prompt for prompt in prompts if prompt.count("{}") != 1), None)
    if wrong is not None:
        raise SettingsError(
            f"a prompt has one {{}}, where the class's name goes; got {wrong!r:.200}"
        )
    return prompts


def _read_prompts(where: str) -> Prompts:
    names = ", ".join(published_prompts())
    form = f"pass a sentence with {{}}, a file of such lines, or one of {names}"
    text = _read_text(where, f"no prompts at {where!r:.200}", form)
    lines: object = text.splitlines()
    if text.lstrip()[:1] in ("[", "{", '"'):
        with suppress(ValueError, RecursionError):  # or a line may begin so
            lines = json.loads(text) or lines  # "{}" is a prompt
    by_name: dict[str, Any] = lines if isinstance(lines, dict) else {"": lines}
    prompts = dict[str, tuple[str, ...]]()
    for name, own in by_name.items():
        if not isinstance(own, list) or not all(isinstance(line, str) for line in own):
            raise SettingsError(
                f"{where} is JSON, and not a list of prompts, nor one for each class "
                '({"cat": ["a photo of a cat.", ...], ...}): write it so, or each on a line'
            )
        # JSON may name halves of characters, which tokenizers refuse.
        whole = (line.encode("utf-8", "replace").decode().strip() for line in own)
        prompts[name] = tuple(filter(None, whole))
        if not 0 < len(prompts[name]) <= _MOST_PROMPTS:
            of = f" of {name!r:.99}" if name else ""
            raise SettingsError(
                f"{where} has {len(prompts[name])} prompts{of}: write 1 to {_MOST_PROMPTS}, a line "
                "each"
            )
    if lines is by_name:
        return {_plain(name): own for name, own in prompts.items()}
    return prompts[""]


def class_prompts(names: Sequence[str], prompts: Prompts) -> list[list[str]]:
    """The sentences of each class: its name in each prompt.

    Raises:
      SettingsError: prompts by name have none for a class.
    """
    by_name = prompts if isinstance(prompts, Mapping) else {_plain(name): prompts for name in names}
    for name in names:
        if _plain(name) not in by_name:
            has = ", ".join([*by_name][:5])
            raise SettingsError(f"--prompts has none for the class {name!r:.99}; it has {has:.400}")
    return [[of.replace("{}", name) for of in by_name[_plain(name)]] for name in names]


def class_weights(vectors: Vectors, counts: Sequence[int]) -> Vectors:
    """float32[d, classes], L2-normalised: the mean over each class's prompts.

    Args:
      vectors: float32[n, d], of `class_prompts`, class after class. counts: how many each has.
    """
    parts = torch.split(torch.from_numpy(vectors), [*counts])
    means = torch.stack([part.mean(dim=0) for part in parts])
    weights: Vectors = (means / means.norm(dim=1, keepdim=True)).T.numpy()
    return weights


def logits(images: torch.Tensor, weights: Vectors) -> torch.Tensor:
    """float32[n, classes] of float32[n, d] images."""
    return LOGIT_SCALE * images @ torch.from_numpy(weights)
