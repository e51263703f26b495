"""Records of version 1, which had a joint histogram of all measures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np

from alignset.transforms.columns.records import Axis, Example, Ints, Record


class Joint(msgspec.Struct, frozen=True):
    """How many pairs there are in each cell of several axes; cells without any are left out.

    Attributes:
      cells: ascending; the bins of a cell are its digits, the first axis the most significant.
      counts: of each cell.
    """

    axes: list[Axis] = []
    cells: list[int] = []
    counts: list[int] = []

    def bins(self) -> dict[str, Ints]:
        """int64[cells] bins, by axis."""
        left, digits = np.array(self.cells, np.int64), {}
        for axis in reversed(self.axes):
            left, digits[axis.name] = np.divmod(left, axis.bins)
        return digits


class _Example(Example, frozen=True, omit_defaults=True):
    words: int = -1
    score: float | None = None
    unsafe: float | None = None
    distance: float | None = None


@dataclass(frozen=True)
class EarlierRecord(Record):
    """A record as version 1 wrote it.

    Attributes:
      joint: of the pairs that the rules on its axes judge.
    """

    examples: list[_Example] = field(default_factory=list)  # type: ignore[assignment]
    joint: Joint = field(default_factory=Joint)
    version: int = 1


def with_examples(record: EarlierRecord) -> EarlierRecord:
    """The record with its examples in the form of today."""
    examples = [_as_today(example) for example in record.examples]
    return replace(record, examples=examples)  # type: ignore[arg-type]


def _as_today(example: _Example) -> Example:
    shorter, longer = sorted((example.width, example.height))
    values = {
        "side": shorter or None,
        "aspect": longer / shorter if shorter > 0 else None,
        "words": example.words if example.words >= 0 else None,
        "language": example.score,
        "unsafe": example.unsafe,
        "distance": example.distance,
    }
    common = {name: getattr(example, name) for name in Example.__struct_fields__}
    common["values"] = {name: float(value) for name, value in values.items() if value is not None}
    return Example(**common)


def add_joints(joints: Iterable[Joint]) -> Joint:
    """Adds up those that have the axes of the first; the others are left out."""
    axes: list[Axis] = []
    total: Counter[int] = Counter()
    for joint in joints:
        axes = axes or joint.axes
        if joint.axes == axes:
            total.update(dict(zip(joint.cells, joint.counts, strict=True)))
    cells = sorted(total)
    return Joint(axes, cells, [total[cell] for cell in cells])
