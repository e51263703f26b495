"""Pairs that other thresholds would keep, from the joint histogram of records of version 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from alignset.transforms.columns.earlier_records import Joint
from alignset.transforms.columns.records import KEPT, Ints, RowSample
from alignset.transforms.rules.rule import Limit
from alignset.transforms.rules.trials import Trials

if TYPE_CHECKING:
    from alignset.transforms.columns.hashing import Bools

# The axes that were marks: 1 where a count of the corpus was against a text; the last of them also
# had a bin of those that it was not asked of.
_MARKS = ("text_on_too_many_images", "image_with_too_many_texts", "rare_token")


def trials_of_joint(joint: Joint, limits: Sequence[Limit], rules: Mapping[str, float]) -> Trials:
    """The same counts as records of today have; all rows stand for their sample.

    Args:
      limits: of the stage. rules: the thresholds of the run.
    """
    bins, counts = joint.bins(), np.array(joint.counts, np.int64)
    axes = {axis.name: axis for axis in joint.axes if axis.name not in _MARKS}
    own = [limit for limit in limits if limit.measure.axis in axes]
    others = np.zeros(len(counts), np.bool_)
    for mark in _MARKS:
        others |= bins.get(mark, np.zeros(len(counts), np.int64)) == 1
    for limit in own:
        if limit.measure.dropped_only:
            axis = axes[limit.measure.axis]
            others |= bins[axis.name] == axis.no_value
    kept: dict[str, Bools] = {}
    for limit in own:
        axis = axes[limit.measure.axis]
        edge = limit.edge(rules.get(limit.name, np.inf))
        kept[limit.name] = axis.passes(bins[axis.name], edge, beyond=limit.beyond)
    failed = np.zeros(len(counts), np.int64)
    for passed in kept.values():
        failed += ~passed
    alone = {}
    for limit in own:
        rest = ~others & (failed == ~kept[limit.name])
        alone[limit.name] = _counts(bins[limit.measure.axis][rest], counts[rest])
    outcome = (failed == 0) & ~others
    histograms = {
        name: {
            KEPT: _counts(bins[name][outcome], counts[outcome]),
            "dropped": _counts(bins[name][~outcome], counts[~outcome]),
        }
        for name in axes
    }
    left = np.flatnonzero(~others)
    sample = RowSample(
        int(counts[left].sum()),
        b"",
        {name: bins[name][left].astype(np.uint8).tobytes() for name in axes},
        counts[left].tolist(),
    )
    return Trials(histograms, alone, sample)


def _counts(bins: Ints, counts: Ints) -> dict[str, int]:
    totals = np.bincount(bins, counts) if len(bins) else np.zeros(0)
    return {str(place): int(n) for place, n in enumerate(totals.tolist()) if n}
