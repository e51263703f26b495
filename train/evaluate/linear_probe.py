"""Logistic regression over features that stay on disk, by L-BFGS."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from alignset.train.evaluate.feature_store import Features

# Of the penalty, per image: what CLIP's authors swept, by whole powers of ten.
STRENGTHS = tuple(10.0**power for power in range(-8, 3))
_AT_ONCE = 1 << 14  # images
_MOST_STEPS = 1000
Ints = npt.NDArray[np.int64]


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
        chosen = probe.scores(torch.from_numpy(rows)).argmax(dim=1).numpy()
        right += int((chosen == labels[first : first + len(rows)]).sum())
    return right / max(1, len(features))


def choose_strength(
    train: tuple[Features, Ints], validation: tuple[Features, Ints], classes: int
) -> tuple[float, dict[float, float]]:
    """The strength with the best accuracy on the validation images, and the accuracy of each. Among
    equally
    good ones the strongest: it is the simplest classifier."""
    accuracies: dict[float, float] = {}
    probe = None
    for strength in sorted(STRENGTHS, reverse=True):
        probe = fit(*train, classes, strength, probe)
        accuracies[strength] = accuracy(probe, *validation)
    best = max(accuracies, key=lambda strength: (accuracies[strength], strength))
    return best, accuracies
