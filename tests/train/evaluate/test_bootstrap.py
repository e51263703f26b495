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


def test_a_ratio_resamples_its_pairs_together():
    counts = RNG.integers(1, 9, 200)
    hits = np.where(RNG.random(200) < 0.4, counts, 0)
    expected = by_rows(lambda h, c: h.sum() / c.sum(), hits, counts)
    assert ratio_interval(hits, counts) == pytest.approx(expected, abs=0.01)


def test_a_median():
    values = RNG.integers(1, 60, 301).astype(float)
    expected = by_rows(lambda v: np.sort(v)[150], values)
    assert median_interval(values) == pytest.approx(expected, abs=1)


def test_the_mean_over_classes():
    labels = np.repeat([0, 1, 2], [400, 40, 60])
    right = RNG.random(500) < np.array([0.9, 0.2, 0.5])[labels]

    def class_mean(y: np.ndarray, r: np.ndarray) -> float:
        return float(np.mean([r[y == c].mean() for c in range(3)]))

    expected = by_rows(class_mean, labels, right)
    assert class_mean_interval(labels, right) == pytest.approx(expected, abs=0.01)


def test_a_million_things_of_a_few_kinds_take_no_time_and_many_kinds_fit():
    mean_interval((np.arange(1_000_000) % 3).astype(float))
    values = RNG.random((3000, 1))
    low, high = interval(values, lambda times, kinds: (times @ kinds)[:, 0] / 3000)
    assert low < values.mean() < high
