"""Intervals, against resampling row by row, and against what is known of coins."""

import math

import numpy as np
import pytest

from alignset.train.evaluate.bootstrap import (
    class_mean_interval,
    interval,
    mean_interval,
    median_interval,
    ratio_interval,
)

pytestmark = pytest.mark.numeric

RNG = np.random.default_rng(7)


def by_rows(statistic, *columns: np.ndarray) -> tuple[float, float]:
    """The plain bootstrap: draw rows, compute, 2,000 times."""
    rng = np.random.default_rng(1)
    n = len(columns[0])
    values = []
    for _ in range(2000):
        rows = rng.integers(0, n, n)
        values.append(statistic(*(column[rows] for column in columns)))
    return tuple(np.nanpercentile(values, [2.5, 97.5]))


def test_of_a_coin_it_is_the_binomials():
    values = np.repeat([0.0, 1.0], [700, 300])
    low, high = mean_interval(values)
    spread = 1.96 * math.sqrt(0.3 * 0.7 / 1000)
    assert low == pytest.approx(0.3 - spread, abs=0.004)
    assert high == pytest.approx(0.3 + spread, abs=0.004)
    assert mean_interval(values[RNG.permutation(1000)]) == (low, high)
    assert mean_interval(np.ones(5)) == (1, 1)


COUNTS, VALUES = RNG.integers(1, 9, 200), RNG.integers(1, 60, 301).astype(float)
HITS, LABELS = np.where(RNG.random(200) < 0.4, COUNTS, 0), np.repeat([0, 1, 2], [400, 40, 60])
RIGHT = RNG.random(500) < np.array([0.9, 0.2, 0.5])[LABELS]


def class_mean(labels: np.ndarray, right: np.ndarray) -> float:
    return float(np.mean([right[labels == c].mean() for c in range(3)]))


@pytest.mark.parametrize(
    ("ours", "plain", "columns", "within"),
    [
        (ratio_interval, lambda hits, counts: hits.sum() / counts.sum(), (HITS, COUNTS), 0.01),
        (median_interval, lambda values: np.sort(values)[150], (VALUES,), 1),
        (class_mean_interval, class_mean, (LABELS, RIGHT), 0.01),
    ],
)
def test_they_are_those_of_resampled_rows(ours, plain, columns, within: float):
    assert ours(*columns) == pytest.approx(by_rows(plain, *columns), abs=within)


def test_many_things_of_a_few_kinds_and_many_kinds():
    mean_interval((np.arange(100_000) % 3).astype(float))
    values = RNG.random((3000, 1))
    low, high = interval(values, lambda times, kinds: (times @ kinds)[:, 0] / 3000)
    assert low < values.mean() < high
