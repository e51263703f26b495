"""Classes by the nearest labelled images, as COYO-ALIGN reports ImageNet: one neighbour, cosine."""

from argparse import Namespace
from collections.abc import Callable

import numpy as np

from alignset.train.counts import counted
from alignset.train.errors import SettingsError
from alignset.train.evaluate.classes import Classes, find_classes
from alignset.train.evaluate.classification import TOP, ClassAnswers, class_scores
from alignset.train.evaluate.embedding import Embedding
from alignset.train.evaluate.neighbours import neighbours, votes
from alignset.train.evaluate.sets.labelled import LabelledSet, find_labelled
from alignset.train.evaluate.task_result import Card, Section, TaskResult
from alignset.train.evaluate.tasks.zero_shot import EmbeddedLabels, embed_labelled

_SHOWN = 12  # pictures of a section


def evaluate(flags: Namespace, open_embedding: Callable[[], Embedding]) -> TaskResult:
    """The task, by its flags.

    Raises:
      SettingsError: a set can't be read, k is too large, the temperature is not above 0.
    """
    if flags.k < 1 or not flags.temperature > 0:  # nan is not
        raise SettingsError(
            f"k must be at least 1 and temperature above 0; got {flags.k} and {flags.temperature}"
        )
    train_set = find_labelled(flags.data)
    test_set = find_labelled(flags.test)
    classes = both_classes(flags.classes, train_set, test_set)
    embedding = open_embedding()
    train = embed_labelled(train_set, classes, embedding, flags.data)
    test = embed_labelled(test_set, classes, embedding, flags.test)
    if flags.k > len(train.labels):
        trained = counted(len(train.labels), "image")
        raise SettingsError(f"k must be at most the {trained}; got {flags.k}")
    shared = shared_images(train, test)
    near, cosines = neighbours(test.images.features, train.images.features, flags.k)
    ranked = votes(near, cosines, train.labels, len(classes.names), flags.temperature)
    most = TOP if min(flags.k, len(classes.names)) >= TOP else 1  # fewer than five can't vote for 5
    answers = ClassAnswers(
        test.labels, ranked[:, :most], ranked[:, 0], np.zeros(len(ranked), np.float32)
    )
    result = class_scores(answers, len(classes.names))
    skipped = train.images.skipped + test.images.skipped
    return TaskResult(
        result
        | {
            "k": flags.k,
            "labelled": len(train.labels),
            "also_labelled": shared,
            "skipped": skipped,
        },
        sections(ranked[:, 0], test, classes) if flags.page else [],
        lambda: (image.data for image in test_set),
    )


def both_classes(where: str, train_set: LabelledSet, *others: LabelledSet) -> Classes:
    """The classes of the set that is learned from, of which the others have some, or all."""
    classes = find_classes(where, train_set.names())
    for other in others:
        for label in other.names() or ():
            classes.number(label)
    return classes


def shared_images(train: EmbeddedLabels, test: EmbeddedLabels) -> int:
    """How many images of the test are learned from. Raises SettingsError where all are."""
    learned_from = set(train.images.identities)
    shared = sum(name in learned_from for name in test.images.identities)
    if shared == len(test.images.identities):
        raise SettingsError(
            "all images of --test are in --data: name images that are not learned from"
        )
    return shared


def sections(chosen: np.ndarray, test: EmbeddedLabels, classes: Classes) -> list[Section]:
    """Some images that were classified wrong, and some right, spread over the set."""

    def card(row: int) -> Card:
        right, answer = int(test.labels[row]), int(chosen[row])
        lines = [classes.names[right]]
        lines += [f"taken for {classes.names[answer]}"] if answer != right else []
        return Card(int(test.images.places[row]), (*lines, test.names[row]), answer == right)

    shown = []
    for title, rows in (
        ("Classified wrong", np.flatnonzero(chosen != test.labels)),
        ("Classified right", np.flatnonzero(chosen == test.labels)),
    ):
        spread = rows[np.linspace(0, len(rows) - 1, min(_SHOWN, len(rows))).astype(int)]
        shown.append(Section(title, [card(row) for row in spread.tolist()]))
    return shown
