"""A rule: a number that is measured, a threshold on it, and the words for both.

Nothing large is imported by the rules, since `--help` reads them all.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from alignset.transforms.columns.hashing import Bools
    from alignset.transforms.columns.records import Axis, Ints

    Floats = npt.NDArray[np.float64]

TEXTS, IMAGES = "texts", "images"  # the stages
Numbers = Mapping[str, Any]  # the thresholds of a run, by flag
_LONGEST_TABLE = 1 << 12  # of bins by whole numbers
KEEPS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}


class Stage(IntEnum):
    """When a rule is judged. Its measure is taken of what no rule of an earlier stage drops."""

    TEXT, CORPUS, FETCH, HEADER, PIXELS, PAIR, DATASET = range(7)


class Rows(dict[str, Any]):
    """n pairs or images by column: numbers, NaN where there is none, and bool[n] of given reasons.

    Attributes:
      alive: bool[n], those that no reason before drops; an expensive question is asked of these.
    """

    alive: Bools


class RuleError(Exception):
    """A rule fails by an error that no pair causes, so that the run ends; one line says why."""


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why a row is dropped.

    Attributes:
      step: of the funnel. means, detail: for the docs, in Markdown; the detail beside the reason.
      source: the section of Jia et al., 2021, that has the rule; "" where it is ours.
    """

    reason: str
    step: str
    stage: Stage
    means: str
    detail: str = ""
    source: str = ""

    @property
    def judges(self) -> str:
        return TEXTS if self.stage < Stage.FETCH else IMAGES

    def dropped(self, rows: Rows, numbers: Numbers) -> Bools:
        """bool[n]."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Given(Reason):
    """A reason that has no number: whoever reads, fetches or decodes gives it, in a column that is
    named after it."""

    def dropped(self, rows: Rows, numbers: Numbers) -> Bools:
        return rows[self.reason]


@dataclass(frozen=True, kw_only=True)
class Rule(Reason):
    """A reason that has a flag.

    Attributes:
      name: of the flag. opened: the threshold that drops nothing.
      range: of the thresholds that make sense; allows: the same in words.
      instead: the flag that a report names, where that is another. brief: for the short help.
      needs: the conditions of `setting` without which it has no effect.
    """

    name: str
    default: float
    help: str
    opened: float | None = None
    range: tuple[float, float] = (0, math.inf)
    allows: str = ">= 0"
    instead: str = ""
    brief: str = ""
    needs: str = ""

    def check(self, value: float) -> None:
        """Raises ValueError where a threshold makes no sense."""
        if abs(value) == math.inf:
            raise ValueError(f"{self.name} must be a finite number; got {value}")
        if not self.range[0] <= value <= self.range[1]:
            raise ValueError(f"{self.name} must be {self.allows}; got {value}")

    def is_off(self, value: object) -> bool:
        """Whether a threshold drops nothing."""
        return self.opened is not None and value == self.opened


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A number of a text or an image, as files and the report have it.

    Attributes:
      axis: its name. label: above its histogram; short: in a list of measures.
      of: number[n] of rows; over: what it is divided by, where it is a quotient.
      compute: number[n] of rows of `text` or `pixels`, where it is computed once, and `of` reads
        its column.
      column: of the sidecar and of `rejected/`, "" where there is none.
      edges: where bins of its histogram end, beside the run's thresholds.
      scaled: whether the edges are parts of the threshold. whole: whether values are whole numbers.
      dropped_only: whether values are recorded of dropped rows alone.
      least: where its axis begins. unit: behind a value. missing: said of rows without a value.
      logarithmic: how its histogram is drawn.
      blurs: above it, an image is blurred until its pair is opened.
    """

    axis: str
    label: str
    short: str
    of: Callable[[Rows], Floats]
    edges: Sequence[float]
    compute: Callable[[Rows], Any] | None = None
    over: Callable[[Rows], Floats] | None = None
    column: str = ""
    scaled: bool = False
    whole: bool = False
    dropped_only: bool = False
    least: float = 0.0
    unit: str = ""
    missing: str = ""
    logarithmic: bool = False
    blurs: float = math.inf


@dataclass(frozen=True, kw_only=True)
class Limit(Rule):
    """A rule that compares a measure with a threshold.

    Attributes:
      words: what it keeps, in front of the threshold.
    """

    words: str
    keeps: Literal[">", ">=", "<", "<="]
    measure: Measure

    @property
    def keeps_above(self) -> bool:
        """Whether it keeps what passes an edge of its axis, or else what does not."""
        return self.keeps[0] == ">"

    @property
    def strict(self) -> bool:
        """Whether a value passes an edge only where it is above it."""
        return self.keeps in (">", "<=") and not self._ends_whole

    @property
    def _ends_whole(self) -> bool:
        return self.measure.whole and self.keeps == "<="  # "<= 20" is "< 21"

    def edge(self, threshold: float) -> float:
        """The edge of the axis that a threshold is."""
        return float(threshold) + self._ends_whole

    def threshold(self, edge: float) -> float:
        """The threshold that an edge of the axis is."""
        return edge - self._ends_whole

    def dropped(self, rows: Rows, numbers: Numbers) -> Bools:
        """bool[n]; a row without a value stays."""
        values, bound = self.measure.of(rows), numbers[self.name]
        if self.measure.over is not None:
            bound = bound * self.measure.over(rows)
        passes = KEEPS[self.keeps](values, bound)
        return ~(passes | (values != values) | (bound != bound))  # NaN equals nothing

    def bins(self, rows: Rows, axis: Axis) -> Ints:
        """int64[n]: how many edges each value passes, by the comparison of `dropped`; the last bin
        is of what has no value."""
        import numpy as np

        values = self.measure.of(rows)
        if self.measure.over is not None:
            passes = operator.gt if self.strict else operator.ge
            bounds = self.measure.over(rows)[:, None] * np.array(axis.edges)
            bins = passes(values[:, None], bounds).sum(axis=1)
            values = values + bounds[:, 0]
        else:
            bins = _bins(axis.edges, values, "left" if self.strict else "right")
            if values.dtype.kind == "i":
                return bins
        return np.where(np.isnan(values), axis.no_value, bins).astype(np.int64)


def _bins(edges: Sequence[float], values: Floats, side: Literal["left", "right"]) -> Ints:
    import numpy as np

    if values.dtype.kind == "i" and (most := int(values.max(initial=0))) < _LONGEST_TABLE:
        return np.searchsorted(edges, np.arange(most + 1), side)[values]
    return np.searchsorted(edges, values, side)


@dataclass(frozen=True, kw_only=True)
class OfCorpus(Rule):
    """A rule on counts over all pairs: the first reading makes a dataset, the second asks it.

    Attributes:
      makes: the name of the dataset.
      of: bool[n] of rows, given the dataset. The set is None where it would drop nothing.
      costly: whether it is asked of rows alone that nothing else drops.
    """

    makes: str
    of: Callable[[Rows, Any], Bools]
    costly: bool = False
    stage: Stage = Stage.CORPUS
    range: tuple[float, float] = (1, math.inf)
    allows: str = ">= 1, or no pair passes"

    def dropped(self, rows: Rows, numbers: Numbers) -> Bools:
        corpus_set = rows["corpus"][self.makes]
        return rows.alive & False if corpus_set is None else self.of(rows, corpus_set)
