"""Rank correlations between a model's similarities and people's judgements."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from alignset.train.evaluate.bootstrap import RESAMPLES, SEED, Interval

Floats = npt.NDArray[np.floating]


def ranks(values: Floats) -> npt.NDArray[np.float64]:
    """float64[..., n]: 1 for the smallest along the last axis; equal ones have their mean rank."""
    order = np.argsort(values, axis=-1, kind="stable")
    in_order = np.take_along_axis(np.asarray(values), order, axis=-1)
    n = values.shape[-1]
    places = np.arange(n)
    begins = np.ones(values.shape, bool)
    begins[..., 1:] = in_order[..., 1:] != in_order[..., :-1]
    first = np.maximum.accumulate(np.where(begins, places, 0), axis=-1)
    ends = np.ones(values.shape, bool)
    ends[..., :-1] = begins[..., 1:]
    last = np.where(ends, places, n)[..., ::-1]
    last = np.minimum.accumulate(last, axis=-1)[..., ::-1]
    result = np.empty(values.shape)
    np.put_along_axis(result, order, (first + last) / 2 + 1, axis=-1)
    return result


def spearman(a: Floats, b: Floats) -> npt.NDArray[np.float64]:
    """float64[...] of float[..., n] each; nan where all of one are equal."""
    x, y = (of - of.mean(axis=-1, keepdims=True) for of in (ranks(a), ranks(b)))
    with np.errstate(invalid="ignore"):
        spread = np.sqrt((x * x).sum(axis=-1) * (y * y).sum(axis=-1))
        result: npt.NDArray[np.float64] = (x * y).sum(axis=-1) / spread
    return result


def spearman_interval(a: Floats, b: Floats) -> Interval:
    """95 % over resampled pairs, of float[n] each."""
    rng = np.random.default_rng(SEED)
    return _central(lambda: rng.integers(0, len(a), len(a)), a, b)


def _central(draw: Callable[[], npt.NDArray[np.int64]], a: Floats, b: Floats) -> Interval:
    values = []
    for _ in range(RESAMPLES):
        rows = draw()
        values.append(float(spearman(a[rows], b[rows])))
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def bootstrap_correlation(
    queries: npt.NDArray[np.int64], judged: Floats, similar: Floats
) -> tuple[float, float, Interval]:
    """Spearman's bootstrap correlation of Crisscrossed Captions: mean, standard deviation and the
    central 95 % of 1,000 samples. Each takes half of the queries, and for each of these one of the
    items that it was judged with.

    Args:
      queries: int64[n]: of each pair its query, 0 to q.
      judged: float[n], people's scores.
      similar: float[n], the model's similarities.

    Source: Parekh et al., 2020, from memory: see `train/evaluate/tasks/crisscrossed.py`.
    """
    order = np.argsort(queries, kind="stable")
    starts = np.searchsorted(queries[order], np.arange(queries.max() + 2))
    counts = np.diff(starts)
    asked = np.flatnonzero(counts)
    rng = np.random.default_rng(SEED)
    values = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        half = rng.choice(asked, max(2, len(asked) // 2), replace=False)
        rows = order[starts[half] + (rng.random(len(half)) * counts[half]).astype(np.int64)]
        values[i] = spearman(judged[rows], similar[rows])
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(np.nanmean(values)), float(np.nanstd(values)), (float(low), float(high))
