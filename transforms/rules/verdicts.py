"""Verdicts and histograms of rows, by the rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.columns.carried import json_values
from alignset.transforms.columns.hashing import Bools
from alignset.transforms.columns.records import Axis
from alignset.transforms.rules.catalogue import limits
from alignset.transforms.rules.columns import ColumnLimit, RequiredColumn
from alignset.transforms.rules.custom import UserRows
from alignset.transforms.rules.rule import Limit, Numbers, OfCorpus, Reason, Rows, Stage
from alignset.transforms.rules.rule_settings import RuleSettings

Floats = npt.NDArray[np.float64]


def faults(
    entries: Sequence[Reason], rows: Rows, numbers: Numbers, until: Stage | None = None
) -> dict[str, Bools]:
    """Rows that each reason applies to: bool[n] by reason, in their order.

    Args:
      until: the stage of the last rules that are judged.
    """
    verdicts: dict[str, Bools] = {}
    for entry in entries:
        if until is not None and entry.stage > until:
            break
        if isinstance(entry, OfCorpus) and entry.costly:
            rows.alive = ~np.logical_or.reduce(list(verdicts.values()))
        verdicts[entry.reason] = entry.dropped(rows, numbers)
    return verdicts


def axes_of(entries: Sequence[Reason], numbers: Numbers) -> list[Axis]:
    """One axis a measure; each has the run's own thresholds among its edges."""
    edges: dict[str, set[float]] = {}
    for limit in limits(entries):
        of_axis = edges.setdefault(limit.measure.axis, set())
        own = numbers[limit.name]
        of_measure = limit.measure.edges
        if limit.measure.scaled:
            of_measure = [round(edge * (own or 1), 9) for edge in of_measure]  # 0 drops nothing
        of_axis.update(map(float, of_measure))
        of_axis.add(limit.edge(own))
        if limit.measure.whole and not limit.strict:
            of_axis.discard(0.0)  # which all counts reach
    return [Axis(name, sorted(of_axis)) for name, of_axis in edges.items()]


def values_of(limit: Limit, rows: Rows) -> Floats:
    """float64[n], the values that a rule judges; NaN where there is no value."""
    values = np.asarray(limit.measure.of(rows), np.float64)
    if limit.measure.over is None:
        return values
    with np.errstate(divide="ignore", invalid="ignore"):
        return values / limit.measure.over(rows)


def first_of(marks: Mapping[str, Bools]) -> pa.StringArray:
    """The name of the first mark that each row has, or null: string[n]."""
    first = np.zeros(len(next(iter(marks.values()))), np.int16)
    for place, mark in reversed(list(enumerate(marks.values(), 1))):
        np.copyto(first, np.int16(place), where=mark)
    return pa.array([None, *marks], pa.string()).take(pa.array(first))


def further_of(marks: Mapping[str, Bools], among: Bools) -> pa.StringArray:
    """The names of all marks but the first that each row has, joined by ",", or null: string[n].

    Args:
      among: bool[n], the rows in question; the others get null.
    """
    has_first = np.zeros(len(among), np.bool_)
    sets: list[str | None] = [None]  # distinct sets of further marks, joined once each
    set_of_rows = np.zeros(len(among), np.int32)
    for name, mark in marks.items():
        rows = np.flatnonzero(mark & has_first & among)
        if len(rows):
            before = set_of_rows[rows]
            known = np.flatnonzero(np.bincount(before))
            set_of_rows[rows] = len(sets) + np.searchsorted(known, before)
            sets += [f"{sets[place]},{name}" if place else name for place in known.tolist()]
        has_first |= mark
    return pa.array(sets, pa.string()).take(pa.array(set_of_rows))


def size_rows(width: Sequence[int | None], height: Sequence[int | None]) -> Rows:
    """Values of n images that the rules of sizes judge; some could not be examined."""
    sides = np.array(width, np.float64), np.array(height, np.float64)  # None becomes NaN
    return Rows(shorter=np.minimum(*sides), longer=np.maximum(*sides))


def rule_rows(pairs: pa.Table, rules: RuleSettings) -> Rows:
    """Values of n pairs that the rules of images judge."""
    rows = size_rows(*(pairs[f"original_{side}"].to_pylist() for side in ("width", "height")))
    for name in ("unsafe_score", "evaluation_distance", *rules.computed_columns):
        known = pairs[name].combine_chunks() if name in pairs.column_names else None
        rows[name] = np.full(len(pairs), np.nan) if known is None else numbers_of(known)
    return rows


def fit(rules: RuleSettings, rows: Rows) -> list[bool]:
    """Which of n images are not dropped by their size, before more of them is measured."""
    verdicts = faults(limits(rules.catalogue.images, Stage.HEADER), rows, rules.numbers)
    return first_of(verdicts).is_null().to_pylist()


def column_rows(entries: Sequence[Reason], columns: Mapping[str, pa.Array]) -> Rows:
    """Values that the rules on input columns judge.

    Args:
      columns: these columns by name.
    """
    rows = Rows()
    for rule in entries:
        if isinstance(rule, RequiredColumn):
            column = columns[rule.column]
            lacks = column.is_null(nan_is_null=True)
            if pa.types.is_string(column.type):  # a table in text has no null
                is_blank = pc.equal(pc.utf8_trim_whitespace(column), "")
                lacks = pc.or_(lacks, is_blank.fill_null(True))
            if rule.values:
                is_other = pc.invert(pc.is_in(column, pa.array(rule.values)))
                lacks = pc.and_not(is_other, lacks) if "" in rule.values else is_other
            rows[rule.reason] = lacks.to_numpy(zero_copy_only=False)
        elif isinstance(rule, ColumnLimit):
            numbers = columns[rule.column].cast(pa.float64(), safe=False)
            rows[rule.measure.axis] = numbers_of(numbers)
    return rows


def user_rows(rules: RuleSettings, columns: Mapping[str, pa.Array]) -> UserRows:
    """What rules of users read of n pairs: Python's values by column.

    Args:
      columns: `OF_TEXTS`, and columns of the input; `language` is null where none was found.
    """
    languages = columns["language"]
    if rules.languages and not rules.has_vote:  # the one that is not foreign
        languages = pc.fill_null(languages, rules.languages[0])
    columns = {**columns, "language": languages}
    return UserRows({name: json_values(column) for name, column in columns.items()})


def numbers_of(column: pa.Array) -> Floats:
    """float64[n], NaN where it is null."""
    return np.asarray(pc.fill_null(column.cast(pa.float64()), np.nan), np.float64)
