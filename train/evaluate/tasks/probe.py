"""A linear classifier over frozen vectors, by L-BFGS. Its strength is chosen on images that are
neither those that it is trained on nor those that it is tested on."""

from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from alignset.train.errors import SettingsError, counted
from alignset.train.evaluate.classes import find_classes
from alignset.train.evaluate.embedding import EmbeddedImages, Embedding, Vectors
from alignset.train.evaluate.image_sets import ImageSet, class_labels, find_labelled
from alignset.train.evaluate.page import TaskResult, percent
from alignset.train.evaluate.task_table import ProbeSettings
from alignset.train.evaluate.tasks.zero_shot import (
    Labelled,
    class_answers,
    class_samples,
    class_scores,
    sections,
    select_labelled,
)

# Penalties per image. CLIP's authors swept the same range; here it is in whole powers of ten.
STRENGTHS = tuple(10.0**power for power in range(-8, 3))
_AT_ONCE = 1 << 14  # images
_MOST_STEPS = 1000
_VALIDATION_SHARE = 5  # a fifth of each class
Ints = npt.NDArray[np.int64]


def evaluate(flags: ProbeSettings, open_embedding: Callable[[], Embedding]) -> TaskResult:
    """The task, by its flags.

    Raises:
      SettingsError: a dataset can't be read, has too few images to choose a strength with, or
        images of the test are those to choose it with.
    """
    named = {"data": flags.data, "test": flags.test}
    named |= {"validation": flags.validation} if flags.validation else {}
    sets: dict[str, ImageSet] = {flag: find_labelled(data) for flag, data in named.items()}
    classes = find_classes(flags.classes, class_labels(sets["data"]))
    for images in sets.values():  # which may lack some of the classes
        for label in class_labels(images) or ():
            classes.number(label)
    embedding = open_embedding()
    labelled: dict[str, Labelled] = {}
    for flag, images in sets.items():
        checked = (item for item in images if classes.number(item.about) >= 0)
        embedded = embedding.images(checked, named[flag])
        labelled[flag] = select_labelled(embedded, classes, named[flag])
    (train, train_labels), (test, test_labels) = labelled["data"], labelled["test"]
    tested, learned_from = set(test.identities()), set(train.identities())
    if flags.validation:
        validation, validation_labels = labelled["validation"]
        if common := tested & {*validation.identities()}:
            raise SettingsError(
                f"--validation shares {counted(len(common), 'image')} with --test, on which the "
                "strength must not be chosen: take what is shared out of one"
            )
        sides = (train.vectors, train_labels), (validation.vectors, validation_labels)
    else:
        chosen = _validation_images(train, train_labels, tested)
        sides = (
            (train.vectors[~chosen], train_labels[~chosen]),
            (train.vectors[chosen], train_labels[chosen]),
        )
    shared_count = sum(name in learned_from for name in test.identities())
    if shared_count == len(test.items):
        raise SettingsError(
            "all images of --test are in --data: name images that are not learned from"
        )
    count = len(classes.names)
    strength, accuracies = choose_strength(*sides, count)
    weights = fit(train.vectors, train_labels, count, strength)
    answers = class_answers(test.vectors, test_labels, partial(linear_scores, weights), count)
    result = class_scores(answers, classes.names) | {
        "strength": strength,
        "validation": {f"{key:g}": percent(value) for key, value in accuracies.items()},
        "trained_on": len(train_labels),
        "validated_on": len(sides[1][1]),
        "also_trained_on": shared_count,
        "skipped": train.skipped + test.skipped,
    }
    return TaskResult(
        result,
        sections(answers, classes, test) if flags.page else [],
        lambda: (item.data for item in sets["test"]),
        class_samples(answers, count),
    )


def _validation_images(
    train: EmbeddedImages, labels: Ints, tested: set[bytes]
) -> npt.NDArray[np.bool_]:
    """Every fifth image of each class, in the order of their files' hashes: the same images
    whatever their names. Equal images are on one side, and none that is tested is chosen.

    Raises:
      SettingsError: none is left.
    """
    chosen, identities = np.zeros(len(labels), bool), train.identities()
    for label in range(labels.max() + 1):
        rows = np.flatnonzero(labels == label).tolist()
        kinds = sorted({identities[row] for row in rows})
        every_fifth = set(kinds[_VALIDATION_SHARE - 1 :: _VALIDATION_SHARE]) - tested
        chosen[rows] = [identities[row] in every_fifth for row in rows]
    if not chosen.any():
        raise SettingsError(
            f"--data has fewer than {_VALIDATION_SHARE} images of each class, or they are in "
            "--test, so that none can be set aside to choose the strength: name some with "
            "--validation"
        )
    return chosen


def linear_scores(weights: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """float64[n, classes] of float64[classes, d + 1], whose last column is the bias, and
    float32[n, d]."""
    return rows.double() @ weights[:, :-1].T + weights[:, -1]


def fit(
    vectors: Vectors,
    labels: Ints,
    classes: int,
    strength: float,
    start: torch.Tensor | None = None,
) -> torch.Tensor:
    """The weights with the least mean cross-entropy + strength / 2 * |weights|^2, without the bias:
    the minimum is one, so that it depends neither on an order nor on a seed.

    Args:
      vectors: float32[n, d]. labels: int64[n].
      start: the weights of another strength, from which fewer steps lead there.
    """
    if start is None:
        start = torch.zeros(classes, vectors.shape[1] + 1, dtype=torch.float64)
    weights = start.clone().requires_grad_(True)
    optimizer = torch.optim.LBFGS(
        [weights],
        max_iter=_MOST_STEPS,
        tolerance_grad=1e-7,
        tolerance_change=1e-12,
        history_size=10,
        line_search_fn="strong_wolfe",
    )

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        penalty = strength / 2 * weights[:, :-1].square().sum()
        penalty.backward()  # type: ignore[no-untyped-call]
        total = penalty.detach()
        for first in range(0, len(labels), _AT_ONCE):  # in float64 a part at a time
            scores = linear_scores(weights, torch.from_numpy(vectors[first : first + _AT_ONCE]))
            target = torch.from_numpy(labels[first : first + _AT_ONCE])
            part = F.cross_entropy(scores, target, reduction="sum") / len(labels)
            part.backward()  # type: ignore[no-untyped-call]
            total = total + part.detach()
        return total

    step: Callable[[Callable[[], torch.Tensor]], object] = optimizer.step
    step(loss)
    return weights.detach()


def choose_strength(
    train: tuple[Vectors, Ints], validation: tuple[Vectors, Ints], classes: int
) -> tuple[float, dict[float, float]]:
    """The strength with the best accuracy on the validation images, and the accuracy of each. Among
    equally good ones the strongest: it is the simplest classifier."""
    accuracies: dict[float, float] = {}
    weights = None
    for strength in sorted(STRENGTHS, reverse=True):
        weights = fit(*train, classes, strength, weights)
        answers = class_answers(*validation, partial(linear_scores, weights), classes)
        accuracies[strength] = float((answers.choices == answers.labels).mean())
    best = max(accuracies, key=lambda strength: (accuracies[strength], strength))
    return best, accuracies
