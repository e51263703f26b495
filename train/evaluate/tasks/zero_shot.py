"""Images classified by the classes' names alone, as the paper's table 4."""

import re
import sys
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from alignset.train.errors import SettingsError
from alignset.train.evaluate.classes import Classes, find_classes
from alignset.train.evaluate.classification import (
    ClassAnswers,
    class_answers,
    class_scores,
    confused,
)
from alignset.train.evaluate.embedding import EmbeddedImages, Embedding
from alignset.train.evaluate.sets.labelled import LabelledSet, find_labelled
from alignset.train.evaluate.task_result import Card, Section, TaskResult
from alignset.train.evaluate.zero_shot import class_weights, find_prompts, logits, usual_prompts

_SHOWN = 12  # pictures of a section
_PAIRS = 10  # of classes that are confused
# Digits and signs, or hexadecimal, or a synset of WordNet.
_NUMBER = re.compile(r"[\W\d_]+|(?=\D*\d)[0-9a-f]+|n\d{8}", re.IGNORECASE)


@dataclass
class EmbeddedLabels:
    """A set that went through a model.

    Attributes:
      labels: int64[n]: of each image that could be decoded its class.
      names: of these images.
    """

    images: EmbeddedImages
    labels: npt.NDArray[np.int64]
    names: list[str]


def embed_labelled(
    labelled: LabelledSet, classes: Classes, embedding: Embedding, where: str
) -> EmbeddedLabels:
    """Raises SettingsError where no image can be decoded, or one's class is none."""
    # Before it is embedded, each image's class is looked up.
    images, items = embedding.items(i for i in labelled if classes.number(i.label) >= 0)
    if not items:
        raise SettingsError(f"no image with a class in {where} can be decoded: name some that can")
    labels = np.array([classes.number(item.label) for item in items], np.int64)
    return EmbeddedLabels(images, labels, [item.name for item in items])


def evaluate(flags: Namespace, open_embedding: Callable[[], Embedding]) -> TaskResult:
    """The task, by its flags.

    Raises:
      SettingsError: the set, its classes or the prompts can't be read.
    """
    labelled = find_labelled(flags.data, images=flags.images, split=flags.split)
    classes = find_classes(flags.classes, labelled.names())
    warn_of_names(classes)
    prompts = find_prompts(flags.prompts or usual_prompts(classes))
    embedding = open_embedding()
    weights = class_weights(embedding, classes.names, prompts)
    embedded = embed_labelled(labelled, classes, embedding, flags.data)
    score = partial(logits, weights=weights)
    answers = class_answers(embedded.images.features, embedded.labels, score, len(classes.names))
    result = class_scores(answers, len(classes.names))
    result |= {"prompts": len(prompts), "confused": confused_names(answers, classes)}
    return TaskResult(
        result | {"skipped": embedded.images.skipped},
        sections(answers, classes, embedded) if flags.page else [],
        lambda: (image.data for image in labelled),
    )


def warn_of_names(classes: Classes) -> None:
    """A line on stderr where most classes are called by numbers, which tell a model nothing."""
    numbers = [name for name in classes.names if _NUMBER.fullmatch(name.strip())]
    if 2 * len(numbers) > len(classes.names):
        print(
            f"{len(numbers)} of {len(classes.names)} classes have a number for a name, as "
            f"{numbers[0][:40]!r}, and the model is asked by the names alone: give words with "
            "--classes=FILE (a line LABEL, a tab, NAME for each class)",
            file=sys.stderr,
        )


def confused_names(answers: ClassAnswers, classes: Classes) -> list[dict[str, object]]:
    """The pairs of classes that are most often taken for each other."""
    return [
        {"class": classes.names[right], "taken_for": classes.names[chosen], "images": count}
        for right, chosen, count in confused(answers, _PAIRS)
    ]


def sections(answers: ClassAnswers, classes: Classes, embedded: EmbeddedLabels) -> list[Section]:
    """Images classified surest, those that are furthest off, and the classes most confused."""
    order = np.argsort(answers.margins, kind="stable")

    def card(row: int) -> Card:
        right, chosen = int(answers.labels[row]), int(answers.chosen[row])
        lines = [f"{classes.names[right]}"]
        lines += [f"taken for {classes.names[chosen]}"] if chosen != right else []
        lines += [embedded.names[row]]
        return Card(int(embedded.images.places[row]), tuple(lines), chosen == right)

    result_sections = [
        Section("Surest", [card(row) for row in order[:_SHOWN].tolist()]),
        Section("Furthest off", [card(row) for row in order[::-1][:_SHOWN].tolist()]),
    ]
    for right, chosen, count in confused(answers, 3):
        rows = np.flatnonzero((answers.labels == right) & (answers.chosen == chosen))
        title = f"{classes.names[right]}, taken for {classes.names[chosen]} ({count})"
        result_sections.append(Section(title, [card(row) for row in rows[: _SHOWN // 2].tolist()]))
    return result_sections
