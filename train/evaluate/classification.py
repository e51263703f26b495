"""Images classified: scores in, top-1, top-5 and the mean of the classes' accuracies out.

As clip_benchmark computes them, ties too: of classes that tie, torch.topk takes for top-1 and top-5
what it takes, and the mean over the classes takes the first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from alignset.train.evaluate import bootstrap
from alignset.train.evaluate.page import percent, percents

TOP = 5
_AT_ONCE, _ROWS_AT_ONCE = 1 << 22, 1 << 14  # scores; images, 42 MB of 640 dimensions
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassAnswers:
    """The classes that a model gives n images.

    Attributes:
      labels: int64[n], the classes that are right.
      best: int64[n, k]: the classes that score best, the best one first, -1 where there are no
        more; k is 5, or 1 where there are fewer classes.
      choices: int64[n]: the first of the classes that score best.
      margins: float32[n]: how much better the best class scores than the right one; of an image
        that is classified right, how much better than the next one, and below zero.
    """

    labels: Ints
    best: Ints
    choices: Ints
    margins: npt.NDArray[np.float32]

    def hits(self, k: int) -> npt.NDArray[np.bool_]:
        right: npt.NDArray[np.bool_] = (self.best[:, :k] == self.labels[:, None]).any(axis=1)
        return right


def class_answers(
    vectors: npt.NDArray[np.float32],
    labels: Ints,
    score: Callable[[torch.Tensor], torch.Tensor],
    classes: int,
) -> ClassAnswers:
    """Scores float32[n, d] images in parts.

    Args:
      score: float32[m, d] -> float[m, classes].
    """
    best, choices, margins = [], [], []
    size = max(1, min(_ROWS_AT_ONCE, _AT_ONCE // classes))
    for start in range(0, len(vectors), size):
        scores = score(torch.from_numpy(np.ascontiguousarray(vectors[start : start + size])))
        label = torch.from_numpy(labels[start : start + size])[:, None]
        best.append(scores.topk(TOP if classes >= TOP else 1, dim=1)[1].numpy())
        choices.append(scores.argmax(dim=1).numpy())
        wrong = scores.scatter(1, label, -torch.inf).max(dim=1)[0]
        margins.append((wrong - scores.gather(1, label)[:, 0]).float().numpy())
    return ClassAnswers(labels, *map(np.concatenate, (best, choices, margins)))


def class_scores(answers: ClassAnswers, classes: int) -> dict[str, Any]:
    """Scores of these images, in percent and with intervals."""
    ks = (1, TOP) if answers.best.shape[1] >= TOP else (1,)
    right = answers.choices == answers.labels
    result: dict[str, Any] = {"n": len(answers.labels), "classes": classes}
    result |= {f"top{k}": percent(float(answers.hits(k).mean())) for k in ks}
    _, label, counts = np.unique(answers.labels, return_inverse=True, return_counts=True)
    result["mean_per_class"] = percent(float((np.bincount(label, weights=right) / counts).mean()))
    result["chance"] = {f"top{k}": percent(k / classes) for k in ks}
    result["intervals"] = {
        **{f"top{k}": percents(bootstrap.mean_interval(answers.hits(k).astype(float))) for k in ks},
        "mean_per_class": percents(bootstrap.class_mean_interval(answers.labels, right)),
    }
    return result


def confusions(answers: ClassAnswers, most: int) -> list[tuple[int, int, int]]:
    """(right class, answered class, how often), the most frequent first."""
    wrong = answers.choices != answers.labels
    pairs, counts = np.unique(
        np.stack([answers.labels[wrong], answers.choices[wrong]], axis=1),
        axis=0,
        return_counts=True,
    )
    order = np.argsort(-counts, kind="stable")[:most]
    return [(*map(int, pairs[i]), int(counts[i])) for i in order]  # type: ignore[misc]
