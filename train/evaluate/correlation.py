"""Rank correlations between a model's similarities and people's judgements."""

import numpy as np
import numpy.typing as npt

from alignset.train.evaluate.bootstrap import RESAMPLES, SEED, Floats, Interval, central


def ranks(values: Floats) -> npt.NDArray[np.float64]:
    """float64[n]: 1 for the smallest; equal ones have their mean rank."""
    _, kinds, counts = np.unique(values, return_inverse=True, return_counts=True)
    means: npt.NDArray[np.float64] = np.cumsum(counts) - (counts - 1) / 2
    return means[kinds]


def spearman(a: Floats, b: Floats) -> float:
    """Spearman's correlation of two float[n]; ties share a mean rank; nan if one is constant."""
    x, y = (of - of.mean() for of in (ranks(a), ranks(b)))
    spread = np.sqrt((x * x).sum() * (y * y).sum())
    return float((x * y).sum() / spread) if spread else float("nan")


def spearman_interval(a: Floats, b: Floats) -> Interval:
    """95 % over resampled pairs, of float[n] each."""
    rng = np.random.default_rng(SEED)
    resamples = (rng.integers(0, len(a), len(a)) for _ in range(RESAMPLES))
    return central([spearman(a[rows], b[rows]) for rows in resamples])


def bootstrap_correlation(
    queries: npt.NDArray[np.int64], judgements: Floats, similar: Floats
) -> tuple[float, float, Interval]:
    """Spearman's bootstrap correlation of Crisscrossed Captions: mean, standard deviation and the
    central 95 % of 1,000 samples. Each takes half of the queries, and for each of these one of the
    items that it was judged with.

    Args:
      queries: int64[n]: of each pair its query, 0 to q.
      judgements: float[n], people's scores.
      similar: float[n], the model's similarities.

    Source: Parekh et al., 2020, from memory: see `train/evaluate/tasks/crisscrossed.py`.
    """
    order = np.argsort(queries, kind="stable")
    starts = np.searchsorted(queries[order], np.arange(queries.max() + 2))
    counts = np.diff(starts)
    nonempty = np.flatnonzero(counts)
    rng = np.random.default_rng(SEED)
    values = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        half = rng.choice(nonempty, max(2, len(nonempty) // 2), replace=False)
        rows = order[starts[half] + (rng.random(len(half)) * counts[half]).astype(np.int64)]
        values[i] = spearman(judgements[rows], similar[rows])
    return float(np.nanmean(values)), float(np.nanstd(values)), central(values)
