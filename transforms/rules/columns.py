"""Rules on columns of the input, such as a score that comes with it: one for each that a command
names. Their flags, and the numbers of a run, are named as in `min_column=NAME`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from alignset.transforms.rules.given import HASH_MISMATCH
from alignset.transforms.rules.rule import Given, Limit, Measure, Numbers, Reason, Rows, Rule, Stage

if TYPE_CHECKING:
    from alignset.transforms.columns.hashing import Bools

MIN, MAX, REQUIRED, VERIFIED = "min_column", "max_column", "require_column", "verify_hash"
KEEP = "keep_column"
COLUMN_FLAGS = (MIN, MAX, KEEP, REQUIRED, VERIFIED)
# One of each kind, for lists of all rules.
OF_ANY_COLUMN = {f"{flag}=NAME": "" if flag == KEEP else 0.0 for flag in COLUMN_FLAGS[:4]}
HASHES = {"md5": 32, "sha256": 64, "sha512": 128}  # hex digits
OF_COLUMN = "column="  # before a column's name, its axis
MOST = 1e15  # a threshold


@dataclass(frozen=True, kw_only=True)
class ColumnLimit(Limit):
    """A rule that compares an input column with a threshold."""

    column: str


@dataclass(frozen=True, kw_only=True)
class RequiredColumn(Rule):
    """A rule that drops pairs without a value in an input column.

    Attributes:
      values: or without one of these, where there are any; "" is of pairs without a value.
    """

    column: str
    values: tuple[str, ...] = ()

    def check(self, value: object) -> None:
        """Any text may be a value."""

    def dropped(self, rows: Rows, numbers: Numbers) -> Bools:
        return rows[self.reason]


OF_HASHES = Given(
    reason=HASH_MISMATCH,
    step="hashes",
    stage=Stage.FETCH,
    means="the file is not the one whose hash the input has "
    "([`--verify_hash`](inputs.md#verified-hashes)); this step is there with that flag alone",
    detail="`bad_hash` where the input's hash is none; the image is then not fetched",
)


def column_rules(numbers: Mapping[str, Any]) -> tuple[Reason, ...]:
    """The rules on input columns among the numbers of a run."""
    rules: list[Reason] = [OF_HASHES] if numbers.get(VERIFIED) else []
    entries = [(*name.partition("=")[::2], bound) for name, bound in numbers.items() if "=" in name]
    thresholds: dict[str, list[float]] = {}
    for kind, column, bound in entries:
        if isinstance(bound, int | float) and kind in (MIN, MAX):
            thresholds.setdefault(column, []).append(bound)
    measures = {column: _measure(column, bounds) for column, bounds in thresholds.items()}
    in_columns = partial(dict[str, Any], help="", step="columns", stage=Stage.TEXT)
    for kind, column, bound in entries:
        own = in_columns(name=f"{kind}={column}", column=column)
        if kind == REQUIRED or (kind == KEEP and isinstance(bound, str)):
            values = tuple(bound.split("|")) if kind == KEEP else ()
            fault = "another" if values else "no"
            rule = RequiredColumn(
                **own,
                default=True,
                reason=f"{'other' if values else 'no'}_{column}",
                means=f"the input's column `{column}` has {fault} value",
                values=values,
            )
            rules.append(rule)
        elif kind in (MIN, MAX) and column in measures:
            low, end = ("low", "least") if kind == MIN else ("high", "most")
            limit = ColumnLimit(
                **own,
                default=bound,
                words=f"Column {column}, at {end}",
                keeps=">=" if kind == MIN else "<=",
                measure=measures[column],
                reason=f"{low}_{column}",
                means=f"the input's column `{column}` is too {low}",
                range=(-MOST, MOST),
                allows=f"a number of at most {MOST:g}",
            )
            rules.append(limit)
    return tuple(rules)


def _measure(column: str, bounds: Iterable[float]) -> Measure:
    edges = {edge for bound in bounds for edge in edges_around(bound)}
    axis = OF_COLUMN + column
    return Measure(
        axis=axis,
        label=f"Column {column} of the input",
        short=column,
        of=lambda rows: rows[axis],
        column=column,
        edges=sorted(edges),
        least=min(edges),
        missing=" {:,} more have no value.",
    )


def edges_around(bound: float) -> Iterator[float]:
    """Round numbers around a threshold, the same for all of its size, so that runs compare."""
    power, sign = math.floor(math.log10(abs(bound))) if bound else -1, -1 if bound < 0 else 1
    for tens in (*range(-10, 101), 200, 500, 1000):
        yield sign * float(f"{tens}e{power - 1}") + 0.0  # not -0.0


def verified_column(numbers: Mapping[str, Any]) -> tuple[str, str] | None:
    """The hash function and the carried column that files are compared by, if they are."""
    kind, _, column = str(numbers.get(VERIFIED) or "").partition("=")
    return (kind, column) if column else None
