"""Rank correlations, against scipy's, ties included."""

import numpy as np
import pytest
import scipy.stats

from alignset.train.evaluate.correlation import bootstrap_correlation, spearman, spearman_interval

pytestmark = pytest.mark.numeric

RNG = np.random.default_rng(12)


@pytest.mark.parametrize("kinds", [3, 40, 10_000])
def test_it_is_scipys(kinds: int):
    for a, b in RNG.integers(0, kinds, (5, 2, 60)).astype(float):
        assert spearman(a, b) == pytest.approx(scipy.stats.spearmanr(a, b).statistic)
    assert np.isnan(spearman(np.ones(5), np.arange(5.0)))


def test_the_interval_is_around_it_and_narrower_for_more_pairs():
    a = RNG.normal(size=400)
    b = a + RNG.normal(size=400)
    widths = []
    for n in (40, 400):
        low, high = spearman_interval(a[:n], b[:n])
        assert low < spearman(a[:n], b[:n]) < high
        widths.append(high - low)
    assert widths[0] > 2 * widths[1]


def test_bootstrap_correlation_takes_one_item_of_half_of_the_queries():
    queries = np.repeat(np.arange(100), 4)
    judged = RNG.random(400)
    mean, deviation, (low, high) = bootstrap_correlation(queries, judged, judged * 3 - 1)
    assert (mean, low, high) == pytest.approx((1, 1, 1))
    assert deviation == pytest.approx(0, abs=1e-12)
    noisy = judged + RNG.normal(size=400) / 2
    mean, deviation, (low, high) = bootstrap_correlation(queries, judged, noisy)
    assert mean == pytest.approx(spearman(judged, noisy), abs=0.05)
    assert deviation == pytest.approx(1 / np.sqrt(50), rel=0.4)  # of 50 pairs
    assert low < mean < high
    # Within a query all agree, between queries nothing does: no query is asked twice.
    alike = np.repeat(RNG.random(100), 4)
    mean, *_ = bootstrap_correlation(queries, alike, np.repeat(RNG.random(100), 4))
    assert abs(mean) < 0.3
