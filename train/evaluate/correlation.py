"""Rank correlations between a model's similarities and people's judgements."""

import numpy as np
from scipy.stats import rankdata

from alignset.train.evaluate.bootstrap import RESAMPLES, SEED, Floats, Interval, central


def spearman(a: Floats, b: Floats) -> float:
    """Spearman's correlation of two float[n]; ties share a mean rank; nan if one is constant."""
    x, y = (rankdata(values) - (len(values) + 1) / 2 for values in (a, b))
    spread = np.sqrt((x * x).sum() * (y * y).sum())
    return float((x * y).sum() / spread) if spread else float("nan")


def spearman_interval(a: Floats, b: Floats) -> Interval:
    """95 % over resampled pairs, of float[n] each."""
    rng = np.random.default_rng(SEED)
    resamples = (rng.integers(0, len(a), len(a)) for _ in range(RESAMPLES))
    return central([spearman(a[rows], b[rows]) for rows in resamples])
