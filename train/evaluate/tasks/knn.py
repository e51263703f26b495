"""Classes by the nearest labelled images, as COYO-ALIGN reports ImageNet: one neighbour, cosine."""

from argparse import Namespace
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from alignset.train.errors import SettingsError, counted
from alignset.train.evaluate.bootstrap import mean_interval
from alignset.train.evaluate.classes import Classes, find_classes
from alignset.train.evaluate.classification import TOP, ClassAnswers, class_scores
from alignset.train.evaluate.embedding import Embedding
from alignset.train.evaluate.feature_store import Features
from alignset.train.evaluate.sets.labelled import LabelledSet, find_labelled
from alignset.train.evaluate.task_result import Card, Section, TaskResult, percent, percents
from alignset.train.evaluate.tasks.zero_shot import EmbeddedLabels, embed_labelled

RECALL_AT = (1, 5, 10)  # as the paper's table 10 has it: is the class among the K nearest images'?
_SHOWN = 12  # images of a section
AT_ONCE = 1 << 24  # scores
WIDEST = 1 << 16  # labelled images that are looked at at once
Ints = npt.NDArray[np.int64]
Cosines = npt.NDArray[np.float32]


def evaluate(flags: Namespace, open_embedding: Callable[[], Embedding]) -> TaskResult:
    """The task, by its flags.

    Raises:
      SettingsError: a dataset can't be read, k is too large, the temperature is not above 0.
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
        limit = counted(len(train.labels), "image")
        raise SettingsError(f"k must be at most the {limit}; got {flags.k}")
    shared_count = shared_images(train, test)
    ks = [k for k in RECALL_AT if k <= len(train.labels)]
    near, cosines = neighbours(test.images.features, train.images.features, max(flags.k, *ks))
    own = slice(flags.k)
    best = votes(near[:, own], cosines[:, own], train.labels, len(classes.names), flags.temperature)
    is_right = train.labels[near] == test.labels[:, None]
    recalls = {f"R@{k}": is_right[:, :k].any(axis=1).astype(float) for k in ks}
    most = TOP if min(flags.k, len(classes.names)) >= TOP else 1  # fewer than five can't vote for 5
    answers = ClassAnswers(test.labels, best[:, :most], best[:, 0], np.zeros(len(best), np.float32))
    result = class_scores(answers, len(classes.names))
    result |= {name: percent(float(hits.mean())) for name, hits in recalls.items()}
    result["intervals"] |= {name: percents(mean_interval(hits)) for name, hits in recalls.items()}
    skipped = train.images.skipped + test.images.skipped
    return TaskResult(
        result
        | {
            "k": flags.k,
            "labelled": len(train.labels),
            "also_labelled": shared_count,
            "skipped": skipped,
        },
        sections(best[:, 0], test, classes) if flags.page else [],
        lambda: (image.data for image in test_set),
    )


def both_classes(where: str, train_set: LabelledSet, *others: LabelledSet) -> Classes:
    """The classes of the training set; the others have some or all of them."""
    classes = find_classes(where, train_set.names())
    for other in others:
        for label in other.names() or ():
            classes.number(label)
    return classes


def shared_images(train: EmbeddedLabels, test: EmbeddedLabels) -> int:
    """How many images of the test are learned from. Raises SettingsError where all are."""
    learned_from = set(train.images.identities)
    count = sum(name in learned_from for name in test.images.identities)
    if count == len(test.images.identities):
        raise SettingsError(
            "all images of --test are in --data: name images that are not learned from"
        )
    return count


def sections(answers: np.ndarray, test: EmbeddedLabels, classes: Classes) -> list[Section]:
    """Some images that were classified wrong, and some right, spread over the dataset."""

    def card(row: int) -> Card:
        right, answer = int(test.labels[row]), int(answers[row])
        lines = [classes.names[right]]
        lines += [f"taken for {classes.names[answer]}"] if answer != right else []
        return Card(int(test.images.places[row]), (*lines, test.names[row]), answer == right)

    result_sections = []
    for title, rows in (
        ("Classified wrong", np.flatnonzero(answers != test.labels)),
        ("Classified right", np.flatnonzero(answers == test.labels)),
    ):
        sample = rows[np.linspace(0, len(rows) - 1, min(_SHOWN, len(rows))).astype(int)]
        result_sections.append(Section(title, [card(row) for row in sample.tolist()]))
    return result_sections


def neighbours(queries: Features, candidates: Features, k: int) -> tuple[Ints, Cosines]:
    """int64[n, k]: the nearest labelled images of each query by cosine, the nearest first; and
    float32[n, k], the cosines.

    Args:
      k: at most len(candidates).
    """
    near = np.zeros((len(queries), k), np.int64)
    cosines = np.zeros((len(queries), k), np.float32)
    height = max(1, AT_ONCE // WIDEST)
    for first, rows in queries.parts(height):
        best = torch.zeros(len(rows), 0)
        numbers = torch.zeros(len(rows), 0, dtype=torch.int64)
        for start, columns in candidates.parts(WIDEST):
            scores = torch.from_numpy(rows) @ torch.from_numpy(columns).T
            top, places = scores.topk(min(k, scores.shape[1]), dim=1)
            best, order = torch.cat([best, top], dim=1).sort(dim=1, descending=True, stable=True)
            numbers = torch.cat([numbers, places + start], dim=1).gather(1, order)
            best, numbers = best[:, :k], numbers[:, :k]
        near[first : first + len(rows)] = numbers.numpy()
        cosines[first : first + len(rows)] = best.numpy()
    return near, cosines


def votes(near: Ints, cosines: Cosines, labels: Ints, classes: int, temperature: float) -> Ints:
    """int64[n, classes or 5]: the classes in the order of their votes, the best first; -1 where no
    more classes have a vote.

    A neighbour votes for its class with exp(cosine / temperature). A tie is for the lower class.

    Args:
      labels: int64[m] of the labelled images.
    """
    behind = (cosines - cosines[:, :1]).astype(np.float64)  # float32 has no temperature of 1e-50
    with np.errstate(over="ignore"):  # too far behind for any number is not a vote
        weights = np.exp(behind / temperature)  # float64[n, k], 1 at most
    best = np.zeros((len(near), min(5, classes)), np.int64)
    for first in range(0, len(near), size := max(1, AT_ONCE // classes)):
        rows = slice(first, first + size)
        of_classes = np.zeros((len(near[rows]), classes))
        places = np.broadcast_to(np.arange(len(near[rows]))[:, None], near[rows].shape)
        np.add.at(of_classes, (places, labels[near[rows]]), weights[rows])
        order = np.argsort(-of_classes, axis=1, kind="stable")[:, : best.shape[1]]
        best[rows] = np.where(np.take_along_axis(of_classes, order, axis=1) > 0, order, -1)
    return best
