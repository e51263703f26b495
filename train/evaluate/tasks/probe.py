"""A linear classifier over frozen features, which stay on disk, by L-BFGS. Its strength is chosen
on images that are neither those that it is trained on nor those that it is tested on."""

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from alignset.train.errors import SettingsError, counted
from alignset.train.evaluate.classes import find_classes
from alignset.train.evaluate.classification import class_answers, class_scores
from alignset.train.evaluate.embedding import Embedding
from alignset.train.evaluate.feature_store import Features
from alignset.train.evaluate.sets.labelled import find_labelled
from alignset.train.evaluate.task_result import TaskResult, percent
from alignset.train.evaluate.tasks.zero_shot import (
    EmbeddedLabels,
    confused_names,
    embed_labelled,
    sections,
)

# Penalties per image. CLIP's authors swept the same range; here it is in whole powers of ten.
STRENGTHS = tuple(10.0**power for power in range(-8, 3))
_AT_ONCE = 1 << 14  # images
_MOST_STEPS = 1000
_VALIDATION_SHARE = 5  # a fifth of each class
Ints = npt.NDArray[np.int64]
Labelled = tuple[Features, Ints]


def evaluate(flags: Namespace, open_embedding: Callable[[], Embedding]) -> TaskResult:
    """The task, by its flags.

    Raises:
      SettingsError: a dataset can't be read, has too few images to choose a strength with, or
        images of the test are those to choose it with.
    """
    train_set, test_set = find_labelled(flags.data), find_labelled(flags.test)
    validation_set = find_labelled(flags.validation) if flags.validation else None
    classes = find_classes(flags.classes, train_set.names())
    for other in (test_set, validation_set):  # which may lack some of the classes
        for label in (other.names() if other else None) or ():
            classes.number(label)
    embedding = open_embedding()
    train = embed_labelled(train_set, classes, embedding, flags.data)
    test = embed_labelled(test_set, classes, embedding, flags.test)
    both = train.images.features, train.labels
    validation: Labelled
    if validation_set is not None:
        validation_images = embed_labelled(validation_set, classes, embedding, flags.validation)
        _check_apart(validation_images, test)
        training, validation = both, (validation_images.images.features, validation_images.labels)
    else:
        training, validation = _split(train, set(test.images.identities))
    learned_from = set(train.images.identities)
    shared_count = sum(name in learned_from for name in test.images.identities)
    if shared_count == len(test.images.identities):
        raise SettingsError(
            "all images of --test are in --data: name images that are not learned from"
        )
    count = len(classes.names)
    strength, accuracies = choose_strength(training, validation, count)
    probe = fit(*both, count, strength)
    answers = class_answers(test.images.features, test.labels, probe.scores, count)
    result = class_scores(answers, count) | {
        "strength": strength,
        "validation": {f"{key:g}": percent(value) for key, value in accuracies.items()},
        "trained_on": len(train.labels),
        "validated_on": len(validation[1]),
        "also_trained_on": shared_count,
        "confused": confused_names(answers, classes),
        "skipped": train.images.skipped + test.images.skipped,
    }
    return TaskResult(
        result,
        sections(answers, classes, test) if flags.page else [],
        lambda: (image.data for image in test_set),
    )


def _check_apart(validation_images: EmbeddedLabels, test: EmbeddedLabels) -> None:
    common = set(validation_images.images.identities) & set(test.images.identities)
    if common:
        raise SettingsError(
            f"--validation shares {counted(len(common), 'image')} with --test, on which the "
            "strength must not be chosen: take what is shared out of one"
        )


def _split(train: EmbeddedLabels, test_identities: set[bytes]) -> tuple[Labelled, Labelled]:
    """Every fifth image of each class, in the order of their files' hashes, is for validation: the
    same images whatever their names. Equal images are on one side, and none that is tested is for
    validation."""
    identities = np.array([name.hex() for name in train.images.identities])
    numbers = np.unique(identities, return_inverse=True)[1]
    validation_images = np.zeros(len(numbers), bool)
    for label in np.unique(train.labels).tolist():
        rows = np.flatnonzero(train.labels == label)
        kinds = np.unique(numbers[rows])
        validation_images[rows] = np.isin(
            numbers[rows], kinds[_VALIDATION_SHARE - 1 :: _VALIDATION_SHARE]
        )
    validation_images &= [name not in test_identities for name in train.images.identities]
    if not validation_images.any():
        raise SettingsError(
            f"--data has fewer than {_VALIDATION_SHARE} images of each class, or they are in "
            "--test, so that none can be set aside to choose the strength: name some with "
            "--validation"
        )
    training, validation = np.flatnonzero(~validation_images), np.flatnonzero(validation_images)
    features = train.images.features
    return (
        (features.take(training), train.labels[training]),
        (features.take(validation), train.labels[validation]),
    )


@dataclass(frozen=True)
class Probe:
    """A linear classifier.

    Attributes:
      weights: float64[classes, d + 1]; the last column is the bias.
      strength: of its penalty.
    """

    weights: torch.Tensor
    strength: float

    def scores(self, rows: torch.Tensor) -> torch.Tensor:
        """float64[n, classes] of float32[n, d]."""
        return rows.double() @ self.weights[:, :-1].T + self.weights[:, -1]


def fit(
    features: Features, labels: Ints, classes: int, strength: float, start: Probe | None = None
) -> Probe:
    """The classifier that has the least mean cross-entropy + strength / 2 * |weights|^2, without
    the bias: the minimum is one, so that it depends neither on an order nor on a seed.

    Args:
      start: of another strength, from which fewer steps lead there.
    """
    width = features.width + 1
    weights = torch.zeros(classes, width, dtype=torch.float64) if start is None else start.weights
    weights = weights.clone().requires_grad_(True)
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
        for first, rows in features.parts(_AT_ONCE):
            scores = Probe(weights, strength).scores(torch.from_numpy(rows))
            target = torch.from_numpy(labels[first : first + len(rows)])
            part = F.cross_entropy(scores, target, reduction="sum") / len(features)
            part.backward()  # type: ignore[no-untyped-call]
            total = total + part.detach()
        return total

    step: Callable[[Callable[[], torch.Tensor]], object] = optimizer.step
    step(loss)
    return Probe(weights.detach(), strength)


def accuracy(probe: Probe, features: Features, labels: Ints) -> float:
    """The share of images whose class scores best."""
    right = 0
    for first, rows in features.parts(_AT_ONCE):
        answers = probe.scores(torch.from_numpy(rows)).argmax(dim=1).numpy()
        right += int((answers == labels[first : first + len(rows)]).sum())
    return right / max(1, len(features))


def choose_strength(
    train: tuple[Features, Ints], validation: tuple[Features, Ints], classes: int
) -> tuple[float, dict[float, float]]:
    """The strength with the best accuracy on the validation images, and the accuracy of each. Among
    equally good ones the strongest: it is the simplest classifier."""
    accuracies: dict[float, float] = {}
    probe = None
    for strength in sorted(STRENGTHS, reverse=True):
        probe = fit(*train, classes, strength, probe)
        accuracies[strength] = accuracy(probe, *validation)
    best = max(accuracies, key=lambda strength: (accuracies[strength], strength))
    return best, accuracies
