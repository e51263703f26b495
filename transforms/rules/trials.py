"""What other thresholds would keep of some rows, in counts that add up over shards.

They are linear in the number of rules: a histogram a measure, a histogram a rule of what all other
rules keep, so that one threshold alone is counted exactly, and a sample for several at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from alignset.transforms.columns.records import (
    Axis,
    Ints,
    Sample,
    UInt64s,
    add_nested,
    add_samples,
    sample_of,
)
from alignset.transforms.rules.rule import Limit, Rows

if TYPE_CHECKING:
    from alignset.transforms.columns.hashing import Bools

_BINS = 256  # of an axis, at most


class Judged(NamedTuple):
    """What became of n rows.

    Fields:
      names: of their outcomes. codes: int64[n] of these.
      hashes: uint64[n], of their keys. rows: what the rules asked.
      against: bool[n] by limit. others: bool[n], whether anything but limits is against a row.
    """

    names: Sequence[str]
    codes: Ints
    hashes: UInt64s
    rows: Rows
    against: dict[str, Bools]
    others: Bools


@dataclass(frozen=True)
class Trials:
    """As of `Record`."""

    histograms: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    alone: dict[str, dict[str, int]] = field(default_factory=dict)
    sample: Sample = field(default_factory=Sample)


def trials_of(
    limits: Sequence[Limit], axes: Sequence[Axis], judged: Judged, counted: Bools
) -> Trials:
    """What is recorded of some rows.

    Args:
      counted: bool[n], the rows that count.
    """
    by_axis = {axis.name: axis for axis in axes}
    limit_of = {limit.measure.axis: limit for limit in limits}
    bins = {axis.name: limit_of[axis.name].bins(judged.rows, axis) for axis in axes}
    others = judged.others | ~counted
    for limit in limits:
        if limit.measure.dropped_only:  # no threshold would keep what has no value
            others |= bins[limit.measure.axis] == by_axis[limit.measure.axis].no_value
    against = np.zeros(len(others), np.int8)
    for fault in judged.against.values():
        against += fault
    kept, by_one = ~others & (against == 0), ~others & (against == 1)
    of_kept = {name: np.bincount(of[kept], minlength=_BINS) for name, of in bins.items()}
    alone = {}
    for limit in limits:
        only = bins[limit.measure.axis][by_one & judged.against[limit.name]]
        total = of_kept[limit.measure.axis] + np.bincount(only, minlength=_BINS)
        alone[limit.name] = _counts(total)
    rows = np.flatnonzero(counted)
    codes = judged.codes[rows] * _BINS
    histograms = {
        name: _by_outcome(judged.names, codes + of_axis[rows]) for name, of_axis in bins.items()
    }
    return Trials(histograms, alone, sample_of(bins, judged.hashes, np.flatnonzero(~others)))


def _counts(totals: Ints) -> dict[str, int]:
    return {str(place): int(totals[place]) for place in np.flatnonzero(totals).tolist()}


def _by_outcome(names: Sequence[str], codes: Ints) -> dict[str, dict[str, int]]:
    found = np.bincount(codes, minlength=_BINS * len(names)).reshape(-1, _BINS)
    counts = {name: _counts(row) for name, row in zip(names, found, strict=True)}
    return {name: of_name for name, of_name in sorted(counts.items()) if of_name}


def add_trials(parts: Iterable[Trials]) -> Trials:
    """Adds up those of rows that have the same axes."""
    all_parts = list(parts)
    names = sorted({name for part in all_parts for name in part.histograms})
    return Trials(
        {name: add_nested(part.histograms.get(name, {}) for part in all_parts) for name in names},
        add_nested(part.alone for part in all_parts),
        add_samples(part.sample for part in all_parts),
    )
