"""95 % intervals by the bootstrap, over what was drawn independently: images, mostly.

Each has 1,000 resamples from one seed, so that the same numbers have the same interval. Resampling
n things is drawing how often each kind of them comes: rows that are equal count as one kind, and
all resamples are one multinomial draw, of two kinds for a million right and wrong answers.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

RESAMPLES, SEED = 1000, 0
METHOD = {"resamples": RESAMPLES, "seed": SEED, "percent": 95}  # beside the intervals
_AT_ONCE = 1 << 22  # counts that are held at once

Interval = tuple[float, float]
Floats = npt.NDArray[np.floating]
Statistic = Callable[[Floats, Floats], Floats]


class Sample(NamedTuple):
    """A number of a result, as `interval` resamples it.

    Attributes:
      rows: float[n, k]: what the statistic needs of each of the n things that are resampled.
      statistic: of how often each kind comes, float[r, kinds], and the kinds' rows, float[kinds,
        k], the statistic of each resample, float[r].
    """

    rows: Floats
    statistic: Statistic

    def value(self) -> float:
        """The number itself, where each thing comes once."""
        kinds, counts = np.unique(self.rows, axis=0, return_counts=True)
        return float(self.statistic(counts[None].astype(float), kinds)[0])


def difference(first: Sample, second: Sample) -> Sample:
    """How much more the second is than the first, of the same things in the same order: a resample
    draws a thing for both, so that what is hard for both does not widen the interval."""
    width = first.rows.shape[1]
    return Sample(
        np.concatenate([first.rows, second.rows], axis=1),
        lambda times, kinds: (
            second.statistic(times, kinds[:, width:]) - first.statistic(times, kinds[:, :width])
        ),
    )


def interval(rows: Floats, statistic: Statistic) -> Interval:
    """The central 95 % of the resamples of a `Sample`, by its rows and its statistic."""
    kinds, counts = np.unique(rows, axis=0, return_counts=True)
    rng = np.random.default_rng(SEED)
    shares = counts / counts.sum()
    size = max(1, _AT_ONCE // len(kinds))
    values = [
        statistic(
            rng.multinomial(len(rows), shares, min(size, RESAMPLES - first)).astype(float), kinds
        )
        for first in range(0, RESAMPLES, size)
    ]
    return central(np.concatenate(values))


def central(values: Floats | list[float]) -> Interval:
    """The central 95 % of values, but of those that are nan."""
    low, high = np.nanpercentile(np.asarray(values), [2.5, 97.5])
    return float(low), float(high)


def mean_interval(values: Floats) -> Interval:
    """Interval of the mean of float[n]."""
    return interval(*ratio(values, np.ones(len(values))))


def ratio(numerators: Floats, denominators: Floats) -> Sample:
    """sum(numerators) / sum(denominators), float[n] each: such as hits and captions of images,
    where the images are resampled with all their captions.

    >>> interval(*ratio(np.array([1.0, 1.0]), np.array([2.0, 2.0])))
    (0.5, 0.5)
    """

    def quotient(times: Floats, kinds: Floats) -> Floats:
        sums: Floats = times @ kinds  # float[r, 2]
        return sums[:, 0] / sums[:, 1]

    return Sample(np.stack([numerators, denominators], axis=1), quotient)


def median_interval(values: Floats) -> Interval:
    """Interval of the lower median of float[n]."""

    def median(times: Floats, kinds: Floats) -> Floats:  # kinds are in order
        halves = (len(values) + 1) // 2
        middle: Floats = kinds[(times.cumsum(axis=1) < halves).sum(axis=1), 0]
        return middle

    return interval(np.asarray(values)[:, None], median)


def class_mean(labels: npt.NDArray[np.integer], right: npt.NDArray[np.bool_]) -> Sample:
    """The mean of the classes' accuracies. A class that a resample lacks is not in its mean.

    Args:
      labels: int[n], of each thing its class.
      right: bool[n], whether it was told.
    """

    def mean(times: Floats, kinds: Floats) -> Floats:
        classes = np.unique(kinds[:, 0])
        of_class = kinds[:, :1] == classes  # bool[kinds, c]
        all_, hits = times @ of_class, times @ (of_class & (kinds[:, 1:] > 0))  # float[r, c]
        with np.errstate(invalid="ignore"):
            means: Floats = np.nanmean(hits / all_, axis=1)
        return means

    return Sample(np.stack([labels, right], axis=1).astype(float), mean)


def spearman(a: Floats, b: Floats) -> float:
    """Spearman's correlation of two float[n]; ties share a mean rank; nan if one is constant.

    >>> spearman(np.array([1.0, 2.0, 3.0]), np.array([10.0, 30.0, 20.0]))
    0.5
    """
    x, y = (mean_ranks(values) - (len(values) + 1) / 2 for values in (a, b))
    spread = np.sqrt((x * x).sum() * (y * y).sum())
    return float((x * y).sum() / spread) if spread else float("nan")


def mean_ranks(values: Floats) -> Floats:
    """float[n] of float[n]: 1 for the least; ties share the mean of their ranks.

    >>> mean_ranks(np.array([7.0, 5.0, 7.0])).tolist()
    [2.5, 1.0, 2.5]
    """
    _, kinds, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (counts.cumsum() - (counts - 1) / 2)[kinds]
    return ranks


def spearman_interval(a: Floats, b: Floats) -> Interval:
    """Interval of the correlation over resampled pairs, of float[n] each."""
    rng = np.random.default_rng(SEED)
    resamples = (rng.integers(0, len(a), len(a)) for _ in range(RESAMPLES))
    return central([spearman(a[rows], b[rows]) for rows in resamples])
