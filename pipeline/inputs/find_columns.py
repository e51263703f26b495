"""The columns of the input that go with its pairs, and their types."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace

import pyarrow as pa

from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.column_types import column_types
from alignset.pipeline.inputs.earlier_sets import EarlierSet, set_of
from alignset.pipeline.inputs.splits import CarriedColumn, Split
from alignset.pipeline.inputs.text_files import DELIMITERS
from alignset.pipeline.job import Job
from alignset.pipeline.rules import INPUT, Rules, names_of_ours
from alignset.pipeline.shown_texts import counted
from alignset.transforms.columns.carried import plain_type
from alignset.transforms.rules.catalogue import KEEP_MOST_SIMILAR, SIMILARITY
from alignset.transforms.rules.columns import MAX, MIN, verified_column

LOG = logging.getLogger("alignset")
ALL = "all"
_NO_SIMILARITY = (
    f"--{KEEP_MOST_SIMILAR} goes by the column {SIMILARITY}, and the pairs will have none: pass "
    f"--score_model, or --columns={SIMILARITY} where the input has it"
)
Types = Mapping[str, pa.DataType]


def find_columns(
    job: Job,
    rules: Rules,
    splits: Sequence[Split],
    sets: Sequence[EarlierSet],
    *,
    keeps_all: bool = False,
) -> tuple[list[Split], tuple[pa.Field, ...]]:
    """The splits with the columns that they carry, and these as they are in the output.

    Args:
      sets: datasets of ours that the files belong to. Without --columns, what these carry is
        carried on.
      keeps_all: whether no pair may go for a column: a value that does not fit is null, and a
        column whose types do not fit is left out.

    Raises:
      UsageError: a column is nowhere, has a name of ours, or has types that do not fit.
    """
    own = frozenset(rules.run_rules.columns) | names_of_ours()
    given_names = [*filter(None, job.columns.split(","))]
    names = [*given_names, *rules.judged_columns]
    names += (name for earlier in sets for name in earlier.columns if not given_names)
    for name in own.intersection(names):
        raise UsageError(
            f"{name!r} is the name of a column of ours; pass --columns={INPUT}{name}, by which the "
            "input's is carried, and judged"
        )
    if not names:
        _check_numbers(rules, (), own)
        return [*splits], ()
    by_path = {split.path: split for split in splits if not split.broken}
    types = {path: column_types(split) for path, split in by_path.items()}
    if ALL in names:
        names = [*_all_of(by_path, types, sets, own), *(name for name in names if name != ALL)]
    sources = {
        path: {name: _source(name, of, by_path[path].of_set) for name in dict.fromkeys(names)}
        for path, of in types.items()
    }
    for name in {*given_names} - {
        ALL
    }:  # which a dataset itself may have measured, if no input had it
        if not any(of[name] for of in sources.values()):
            for path, of in types.items():
                sources[path][name] = _source(name, of, within_set=False)
    tables = {path for path, split in by_path.items() if split.format in DELIMITERS}
    fields = list[pa.Field]()
    for name in dict.fromkeys(names):
        try:
            fields.append(_field(name, types, sources, tables))
        except UsageError as error:
            if not keeps_all or name in (*given_names, *rules.judged_columns):
                raise
            LOG.info("%s; it is left out", error)
    _check_numbers(rules, fields, own)
    return [
        replace(split, carried=_carry(fields, sources.get(split.path, {})), keeps_all=keeps_all)
        for split in splits
    ], tuple(fields)


def with_carried(splits: Iterable[Split], fields: Sequence[pa.Field]) -> list[Split]:
    """Splits of what has none of these columns."""
    return [replace(split, carried=_carry(fields, {})) for split in splits]


def _carry(fields: Sequence[pa.Field], sources: Mapping[str, str]) -> tuple[CarriedColumn, ...]:
    return tuple(CarriedColumn(sources.get(field.name, ""), field) for field in fields)


def _source(name: str, types: Types, within_set: bool) -> str:
    """The column of a file that is carried by a name; "" where it has none. Columns of our datasets
    with our names did not come from the input."""
    short = name.removeprefix(INPUT)
    names = (name,) if within_set and short in names_of_ours() else (name, short)
    return next((of for of in names if of in types), "")


def _all_of(
    splits: Mapping[str, Split],
    types: Mapping[str, Types],
    sets: Sequence[EarlierSet],
    own: frozenset[str],
) -> list[str]:
    """All columns of the files that have no name of ours; of datasets of ours, what they carry."""
    names: dict[str, None] = {}
    left_out: dict[str, None] = {}
    for path, split in splits.items():
        earlier = set_of(path, sets)
        if earlier is not None:
            names |= dict.fromkeys(earlier.columns)
            continue
        for name, kind in types[path].items():
            if name in (split.url_column, split.text_column, split.page_column):
                continue
            try:
                plain_type(kind)
                fits = name not in own
            except TypeError:
                fits = False
            (names if fits else left_out)[name] = None
    if left_out:
        some = ", ".join(left_out)
        message = "--columns=all leaves out %s, of names of ours or types that KEY.json cannot hold"
        LOG.info(f"{message}; --columns=all,{INPUT}NAME carries one of such a name", some)
    return [*names]


def _field(
    name: str,
    types: Mapping[str, Types],
    sources: Mapping[str, Mapping[str, str]],
    tables: Set[str],
) -> pa.Field:
    """A column in the type that holds the values of all files.

    Args:
      tables: those that are tables in text.
    """
    having = {path: types[path][of[name]] for path, of in sources.items() if of[name]}
    if not having:
        there = dict.fromkeys(of for of_file in types.values() for of in of_file)
        raise UsageError(
            f"no input file has a column {name!r}, which --columns or a rule names"
            + (f"; pass one of {', '.join([*there][:20])}" if there else "")
        )
    lacking = [path for path in sources if path not in having]
    if lacking:
        message = "the column %r is missing in %s, such as %s: their pairs have no value in it"
        LOG.info(message, name, counted(len(lacking), "file"), lacking[0])
    kinds: dict[pa.DataType, str] = {}
    for path, kind in having.items():
        try:
            kinds.setdefault(plain_type(kind), path)
        except TypeError as error:
            raise UsageError(f"{path}: column {name!r} cannot be carried: {error}") from error
    (first, place), *others = kinds.items()
    for kind, path in others:
        first = _common(name, tables, (first, place), (kind, path))
    return pa.field(name, pa.string() if pa.types.is_null(first) else first)


def _common(name: str, tables: Set[str], *kinds: tuple[pa.DataType, str]) -> pa.DataType:
    """The type that holds the values of two. Every column of a text table can be text."""
    others = [path for kind, path in kinds if kind != pa.string()]
    if len(others) < len(kinds) and tables >= {*others}:
        return pa.string()
    schemas = [pa.schema([(name, kind)]) for kind, _ in kinds]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowException as error:
        (one, path), (other, place) = kinds
        raise UsageError(
            f"column {name!r} is {one} in {path} and {other} in {place}; make them one type, or "
            "leave the column out"
        ) from error


def _check_numbers(rules: Rules, fields: Iterable[pa.Field], own: frozenset[str]) -> None:
    """Raises UsageError where a rule compares a column without numbers, or a hash is not a text."""
    kinds = {field.name: field.type for field in fields}
    comparisons = [name.partition("=")[::2] for name in rules.numbers]
    if rules.keep_most_similar < 1 and SIMILARITY not in own:
        if SIMILARITY not in kinds:
            raise UsageError(_NO_SIMILARITY)
        comparisons.append((KEEP_MOST_SIMILAR, SIMILARITY))
    for flag, column in comparisons:
        if flag in (MIN, MAX, KEEP_MOST_SIMILAR) and column:
            kind = kinds[column]
            if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
                raise UsageError(f"--{flag} takes a column of numbers; {column!r} is {kind}")
    if hashing := verified_column(rules.numbers):
        kind = kinds[hashing[1]]
        if kind != pa.string():
            raise UsageError(f"--verify_hash takes a column of hex text; {hashing[1]!r} is {kind}")
