"""Images classified by the classes' names alone, as the paper's table 4."""

import re
import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from alignset.train.data.tables import per_language
from alignset.train.errors import SettingsError
from alignset.train.evaluate.classes import Classes, babel_languages, find_classes
from alignset.train.evaluate.classification import (
    ClassAnswers,
    class_answers,
    class_scores,
    confusions,
)
from alignset.train.evaluate.embedding import EmbeddedImages, Embedding
from alignset.train.evaluate.sets.labelled import (
    LabelledImage,
    LabelledSet,
    find_labelled,
    labelled_languages,
)
from alignset.train.evaluate.task_result import Card, Section, TaskResult
from alignset.train.evaluate.zero_shot import class_weights, find_prompts, logits, usual_prompts

_SHOWN = 12  # images of a section
_PAIRS = 10  # of classes that are confused
# Digits and signs, or hexadecimal, or a synset of WordNet.
_NUMBER = re.compile(r"[\W\d_]+|(?=\D*\d)[0-9a-f]+|n\d{8}", re.IGNORECASE)


@dataclass
class EmbeddedLabels:
    """A set that went through a model.

    Attributes:
      labels: int64[n]: of each image that could be decoded its class.
      names: of these images.
      files: how many the dataset has, of images that can't be decoded or are of no class too.
    """

    images: EmbeddedImages
    labels: npt.NDArray[np.int64]
    names: list[str]
    files: int


def embed_labelled(
    labelled_set: LabelledSet, classes: Classes, embedding: Embedding, where: str
) -> EmbeddedLabels:
    """Raises SettingsError where no image can be decoded, or one's class is none."""
    # Before it is embedded, each image's class is looked up.
    images, items = embedding.items(i for i in labelled_set if classes.some or classes.has(i.label))
    return _in_classes(images, items, classes, where)


def _in_classes(
    images: EmbeddedImages, items: list[LabelledImage], classes: Classes, where: str
) -> EmbeddedLabels:
    """The images that are of the classes; raises SettingsError where none is."""
    rows = np.flatnonzero([classes.has(item.label) for item in items])
    if not len(rows):
        raise SettingsError(f"no image with a class in {where} can be decoded: name some that can")
    own = [items[row] for row in rows.tolist()]
    labels = np.array([classes.number(item.label) for item in own], np.int64)
    files = len(items) + images.skipped
    return EmbeddedLabels(images.take(rows), labels, [item.name for item in own], files)


def evaluate(flags: Namespace, open_embedding: Callable[[], Embedding]) -> TaskResult:
    """The task, by its flags; each language by itself where these, or --data, have several.

    Raises:
      SettingsError: the dataset, its classes or the prompts can't be read.
    """
    requests = {language: _request(own) for language, own in flags_by_language(flags).items()}
    embedding = open_embedding()
    results: dict[str, dict[str, Any]] = {}
    pictures: list[Section] = []
    identities: set[bytes] = set()
    before = 0  # images of the languages before
    last: tuple[LabelledSet, EmbeddedImages, list[LabelledImage]] | None = None
    for language, (labelled_set, classes, prompts) in requests.items():
        weights = class_weights(embedding, classes.names, prompts)
        if not classes.some:
            embeddings = embed_labelled(labelled_set, classes, embedding, flags.data)
        else:  # of hundreds of languages, say, which share their images
            if last is None or last[0] != labelled_set:
                last = (labelled_set, *embedding.items(labelled_set))
            embeddings = _in_classes(*last[1:], classes, flags.data)
        images, score = embeddings.images, partial(logits, weights=weights)
        answers = class_answers(images.features, embeddings.labels, score, len(classes.names))
        result = class_scores(answers, len(classes.names))
        result |= {"prompts": len(prompts), "confused": confused_names(answers, classes)}
        results[language] = result | {"skipped": images.skipped}
        images.places += before
        before, identities = before + embeddings.files, identities | {*images.identities}
        for section in sections(answers, classes, embeddings) if flags.page else []:
            title = f"{section.title}: {language}" if language else section.title
            pictures.append(Section(title, section.cards))

    return TaskResult(
        _of_languages(results, len(identities)),
        pictures,
        lambda: (image.data for labelled_set, *_ in requests.values() for image in labelled_set),
    )


def flags_by_language(flags: Namespace) -> dict[str, Namespace]:
    """The task's flags for each language; by "" where there is none.

    Raises:
      SettingsError: a flag that names files for languages has none for one of them.
    """
    values = {name: per_language(getattr(flags, name)) for name in ("data", "classes", "prompts")}
    languages = sorted({code for of in values.values() for code in of} - {""})
    if not languages:
        languages = babel_languages(flags.classes) or labelled_languages(flags.data) or [""]
    for name, of in values.items():
        if missing := [code for code in languages if code not in of and "" not in of]:
            raise SettingsError(f"--{name} has nothing for {missing[0]}: add {missing[0]}=FILE")
    return {
        code: Namespace(
            **vars(flags)
            | {name: of.get(code, of.get("")) for name, of in values.items()}
            | {"language": code}
        )
        for code in languages
    }


def _request(flags: Namespace) -> tuple[LabelledSet, Classes, tuple[str, ...]]:
    labelled_set = find_labelled(
        flags.data, images=flags.images, split=flags.split, language=flags.language
    )
    classes = find_classes(flags.classes, labelled_set.names(), flags.language)
    warn_of_names(classes)
    return labelled_set, classes, find_prompts(flags.prompts or usual_prompts(classes))


def _of_languages(results: dict[str, dict[str, Any]], images: int) -> dict[str, Any]:
    """The result of the one language, or each language's with their mean."""
    if len(results) == 1:
        ((language, result),) = results.items()
        return result | ({"language": language} if language else {})
    shares = ("top1", "mean_per_class")
    means = {name: np.mean([of[name] for of in results.values()]) for name in shares}
    return {
        "n": images,
        **{name: round(float(mean), 3) for name, mean in means.items()},
        "languages": results,
        "intervals": {"languages": {code: of.pop("intervals") for code, of in results.items()}},
    }


def warn_of_names(classes: Classes) -> None:
    """A line on stderr where most classes are called by numbers, which tell a model nothing."""
    numbers = [name for name in classes.names if _NUMBER.fullmatch(name.strip())]
    if 2 * len(numbers) > len(classes.names):
        print(
            f"{len(numbers)} of {len(classes.names)} classes have a number for a name, as "
            f"{numbers[0][:40]!r}, and the model is asked by the names alone: pass words with "
            "--classes=FILE (a line LABEL, a tab, NAME for each class)",
            file=sys.stderr,
        )


def confused_names(answers: ClassAnswers, classes: Classes) -> list[dict[str, object]]:
    """The pairs of classes that are most often taken for each other."""
    return [
        {"class": classes.names[right], "taken_for": classes.names[answer], "images": count}
        for right, answer, count in confusions(answers, _PAIRS)
    ]


def sections(answers: ClassAnswers, classes: Classes, embeddings: EmbeddedLabels) -> list[Section]:
    """Images classified surest, those that are furthest off, and the classes most confused."""
    order = np.argsort(answers.margins, kind="stable")

    def card(row: int) -> Card:
        right, answer = int(answers.labels[row]), int(answers.choices[row])
        lines = [f"{classes.names[right]}"]
        lines += [f"taken for {classes.names[answer]}"] if answer != right else []
        lines += [embeddings.names[row]]
        return Card(int(embeddings.images.places[row]), tuple(lines), answer == right)

    result_sections = [
        Section("Surest", [card(row) for row in order[:_SHOWN].tolist()]),
        Section("Furthest off", [card(row) for row in order[::-1][:_SHOWN].tolist()]),
    ]
    for right, answer, count in confusions(answers, 3):
        rows = np.flatnonzero((answers.labels == right) & (answers.choices == answer))
        title = f"{classes.names[right]}, taken for {classes.names[answer]} ({count})"
        result_sections.append(Section(title, [card(row) for row in rows[: _SHOWN // 2].tolist()]))
    return result_sections
