"""Classes by the nearest labelled images, over features that are not trained further."""

import numpy as np
import numpy.typing as npt
import torch

from alignset.train.evaluate.feature_store import Features

AT_ONCE = 1 << 24  # scores
WIDEST = 1 << 16  # labelled images that are looked at at once
Ints = npt.NDArray[np.int64]
Cosines = npt.NDArray[np.float32]


def neighbours(queries: Features, labelled: Features, k: int) -> tuple[Ints, Cosines]:
    """int64[n, k]: the nearest labelled images of each query by cosine, the nearest first; and
    float32[n, k], the cosines.

    Args:
      k: at most len(labelled).
    """
    near = np.zeros((len(queries), k), np.int64)
    cosines = np.zeros((len(queries), k), np.float32)
    height = max(1, AT_ONCE // WIDEST)
    for first, rows in queries.parts(height):
        best = torch.zeros(len(rows), 0)
        numbers = torch.zeros(len(rows), 0, dtype=torch.int64)
        for start, columns in labelled.parts(WIDEST):
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
    with np.errstate(over="ignore"):  # too far behind for any number is no vote
        weights = np.exp(behind / temperature)  # float64[n, k], 1 at most
    ranked = np.zeros((len(near), min(5, classes)), np.int64)
    for first in range(0, len(near), size := max(1, AT_ONCE // classes)):
        rows = slice(first, first + size)
        of_classes = np.zeros((len(near[rows]), classes))
        places = np.broadcast_to(np.arange(len(near[rows]))[:, None], near[rows].shape)
        np.add.at(of_classes, (places, labels[near[rows]]), weights[rows])
        order = np.argsort(-of_classes, axis=1, kind="stable")[:, : ranked.shape[1]]
        ranked[rows] = np.where(np.take_along_axis(of_classes, order, axis=1) > 0, order, -1)
    return ranked
