"""The columns of the input that go with its pairs, and their types."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.earlier_sets import EarlierSet, set_of
from alignset.pipeline.inputs.readers import tar_samples
from alignset.pipeline.inputs.splits import ROWS, CarriedColumn, Split
from alignset.pipeline.inputs.text_files import DELIMITERS, HEAD, dialect, text_blocks
from alignset.pipeline.rule_files import INPUT, names_of_ours
from alignset.pipeline.settings import Settings
from alignset.pipeline.shown_texts import counted
from alignset.transforms.columns.carried import plain_type
from alignset.transforms.rules.catalogue import KEEP_MOST_SIMILAR, SIMILARITY
from alignset.transforms.rules.columns import KEEP, MAX, MIN, verified_column
from alignset.transforms.rules.custom import check_columns
from alignset.transforms.rules.rule import RuleError
from alignset.transforms.storage.files import exists, open_to_read
from alignset.transforms.storage.tar_members import BrokenTar

LOG = logging.getLogger("alignset")
ALL = "all"
_NO_SIMILARITY = (
    f"--{KEEP_MOST_SIMILAR} goes by the column {SIMILARITY}, and the pairs will have none: pass "
    f"--score_model, or --columns={SIMILARITY} where the input has it"
)
_SAMPLES = 100  # of a shard that are looked at
_CODE = "^[-+]?0[0-9]"  # of whole numbers that are codes, such as 00123, which no number holds
Types = Mapping[str, pa.DataType]


def find_columns(
    settings: Settings,
    splits: Sequence[Split],
    sets: Sequence[EarlierSet],
    *,
    keeps_all: bool = False,
) -> tuple[list[Split], tuple[pa.Field, ...]]:
    """The splits with the columns that they carry, and these as they are in the output.

    Args:
      sets: datasets of ours that the files belong to. Without --columns, what these carry is
        carried on, as with --columns=all, and so are the scores of their model.
      keeps_all: whether no pair may go for a column: a value that does not fit is null, and a
        column whose types do not fit is left out.

    Raises:
      UsageError: a column is nowhere, has a name of ours, or has types that do not fit.
    """
    our_names = frozenset(settings.computed_columns) | names_of_ours()
    given_names = [*filter(None, settings.columns.split(","))]
    wanted = [*settings.judged_columns, *filter(None, [settings.blur_boxes])]
    names = [*given_names, *wanted]
    names += (name for earlier in sets for name in earlier.columns if not given_names)
    for name in our_names.intersection(names):
        raise UsageError(
            f"{name!r} is the name of a column of ours; pass --columns={INPUT}{name}, by which the "
            "input's is carried, and judged"
        )
    if not (names or sets):
        _check_numbers(settings, (), our_names)
        return [*splits], ()
    by_path = {split.path: split for split in splits if not split.broken}
    types = {path: column_types(split) for path, split in by_path.items()}
    # A model's scores, which a dataset of ours measured, stay where this run measures none.
    is_scored = (SIMILARITY in kinds for path, kinds in types.items() if set_of(path, sets))
    if (not given_names or ALL in given_names) and SIMILARITY not in our_names and any(is_scored):
        names.append(SIMILARITY)
    if ALL in names:
        names = [
            *_all_of(by_path, types, sets, our_names),
            *(name for name in names if name != ALL),
        ]
    fields, sources = list[pa.Field](), {path: dict[str, str]() for path in types}
    tables = {path for path, split in by_path.items() if split.format in DELIMITERS}
    for name in dict.fromkeys(names):
        of_name = {
            path: _source(name, kinds, by_path[path].of_set) for path, kinds in types.items()
        }
        if name in given_names and not any(of_name.values()):
            # A dataset itself may have measured it, if no input had it.
            of_name = {
                path: _source(name, kinds, within_set=False) for path, kinds in types.items()
            }
        for path, source in of_name.items():
            sources[path][name] = source
        try:
            fields.append(_field(name, types, of_name, tables))
        except UsageError as error:
            if not keeps_all or name in (*given_names, *wanted):
                raise
            LOG.info("%s; it is left out", error)
    _check_numbers(settings, fields, our_names)
    return [
        replace(split, carried=carry(fields, sources.get(split.path, {})), keeps_all=keeps_all)
        for split in splits
    ], tuple(fields)


def carry(fields: Iterable[pa.Field], sources: Mapping[str, str]) -> tuple[CarriedColumn, ...]:
    """Columns as a file has them, which has those that `sources` names."""
    return tuple(CarriedColumn(sources.get(field.name, ""), field) for field in fields)


def _source(name: str, types: Types, within_set: bool) -> str:
    """The column of a file that is carried by a name; "" where it has none. Columns of our datasets
    with our names did not come from the input."""
    short = name.removeprefix(INPUT)
    names = (name,) if within_set and short in names_of_ours() else (name, short)
    return next((source for source in names if source in types), "")


def _all_of(
    splits: Mapping[str, Split],
    types: Mapping[str, Types],
    sets: Sequence[EarlierSet],
    our_names: frozenset[str],
) -> list[str]:
    """All columns of the files that have no name of ours, and what datasets of ours carry."""
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
                fits = name not in our_names
            except TypeError:
                fits = False
            (names if fits else left_out)[name] = None
    if left_out:
        some = ", ".join(left_out)
        message = "--columns=all leaves out %s, of names of ours or types that KEY.json cannot hold"
        LOG.info(f"{message}; --columns=all,{INPUT}NAME carries one of such a name", some)
    return [*names]


def _field(
    name: str, types: Mapping[str, Types], sources: Mapping[str, str], tables: Set[str]
) -> pa.Field:
    """A column in the type that holds the values of all files.

    Args:
      sources: its name in each file. tables: the files that are tables in text.
    """
    having = {path: types[path][source] for path, source in sources.items() if source}
    if not having:
        known = [*dict.fromkeys(column for of_file in types.values() for column in of_file)]
        raise UsageError(
            f"no input file has a column {name!r}, which --columns or a rule names"
            + (f"; pass one of {', '.join(known[:20])}" if known else "")
        )
    lacking = [path for path in sources if path not in having]
    if lacking:
        message = "the column %r is missing in %s, such as %s: their pairs have no value in it"
        LOG.info(message, name, counted(len(lacking), "file"), lacking[0])
    paths: dict[pa.DataType, str] = {}
    for path, kind in having.items():
        try:
            paths.setdefault(plain_type(kind), path)
        except TypeError as error:
            raise UsageError(f"{path}: column {name!r} cannot be carried: {error}") from error
    (common, first_path), *other_kinds = paths.items()
    for kind, path in other_kinds:
        is_text = pa.string() in (common, kind)  # as which a text table's column can be read
        if is_text and (path if common == pa.string() else first_path) in tables:
            common = pa.string()
            continue
        schemas = [pa.schema([(name, each)]) for each in (common, kind)]
        try:
            common = pa.unify_schemas(schemas, promote_options="permissive").field(0).type
        except pa.ArrowException as error:
            raise UsageError(
                f"column {name!r} is {common} in {first_path} and {kind} in {path}; make them one "
                "type, or leave the column out"
            ) from error
    return pa.field(name, pa.string() if pa.types.is_null(common) else common)


def _check_numbers(
    settings: Settings, fields: Iterable[pa.Field], our_names: frozenset[str]
) -> None:
    """Raises UsageError where a rule compares a column without numbers or reads one that is not
    there, a hash is not a text, or boxes are not lists of numbers."""
    try:
        check_columns(settings.catalogue.computing, [field.name for field in fields])
    except RuleError as error:
        raise UsageError(f"--rules: {error}") from error
    kinds = {field.name: field.type for field in fields}
    comparisons = [name.partition("=")[::2] for name in settings.numbers]
    if settings.keep_most_similar < 1 and SIMILARITY not in our_names:
        if SIMILARITY not in kinds:
            raise UsageError(_NO_SIMILARITY)
        comparisons.append((KEEP_MOST_SIMILAR, SIMILARITY))
    for flag, column in comparisons:
        if flag in (MIN, MAX, KEEP, KEEP_MOST_SIMILAR) and column:
            kind, wanted = kinds[column], "text" if flag == KEEP else "numbers"
            is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
            if not (kind == pa.string() if flag == KEEP else is_number):
                raise UsageError(f"--{flag} takes a column of {wanted}; {column!r} is {kind}")
    if hashing := verified_column(settings.numbers):
        kind = kinds[hashing[1]]
        if kind != pa.string():
            raise UsageError(f"--verify_hash takes a column of hex text; {hashing[1]!r} is {kind}")
    if settings.blur_boxes:
        kind = inner = kinds[settings.blur_boxes]
        for _ in range(2):
            inner = inner.value_type if pa.types.is_list(inner) else pa.string()
        if not (pa.types.is_integer(inner) or pa.types.is_floating(inner)):
            raise UsageError(
                "--blur_boxes takes a column of lists of boxes, such as [[x_min, y_min, x_max, "
                f"y_max]] in parts of width and height; {settings.blur_boxes!r} is {kind}"
            )


def column_types(split: Split) -> dict[str, pa.DataType]:
    """The type of each column that a file has.

    A table in text has numbers, truth values and times where its first MiB reads as such, but for
    whole numbers that begin with 0. Values of JSON have the types of the first objects, or of a
    shard's sidecar.
    """
    if split.format in ("parquet", ROWS):
        return _parquet_types(split.path)
    if split.format == "webdataset":
        return _shard_types(split.path)
    head = next(text_blocks(split, HEAD), b"")
    if split.format != "jsonl":
        return _table_types(head, split)
    records = []
    for line in filter(bytes.strip, head.splitlines()):
        with contextlib.suppress(ValueError, RecursionError):
            records.append(json.loads(line.decode("utf-8", "replace")))
    return _record_types(record for record in records if isinstance(record, dict))


def _parquet_types(path: str) -> dict[str, pa.DataType]:
    with open_to_read(path) as source:
        schema = pq.read_schema(source)
    return {field.name: field.type for field in schema if schema.names.count(field.name) == 1}


def _shard_types(path: str) -> dict[str, pa.DataType]:
    records: list[Mapping[str, Any]] = []
    with open_to_read(path) as source, contextlib.suppress(BrokenTar, OSError):
        for sample in islice(tar_samples(source, None), _SAMPLES):
            records.append(sample["carried"])
    types, sidecar = _record_types(records), f"{path.removesuffix('.tar')}.parquet"
    if exists(sidecar):
        with contextlib.suppress(OSError, pa.ArrowException):
            beside = _parquet_types(sidecar)
            types |= {n: kind for n, kind in beside.items() if n in types or "key" in beside}
    return types


def _record_types(records: Iterable[Mapping[str, Any]]) -> dict[str, pa.DataType]:
    """The types of the fields of objects; a field with several gets one that cannot be carried."""
    values: dict[str, list[Any]] = {}
    for record in records:
        for name, value in record.items():
            values.setdefault(name, []).append(value)
    types = {}
    for name, of_name in values.items():
        try:
            types[name] = pa.array(of_name).type
        except (pa.ArrowException, OverflowError, ValueError):
            types[name] = pa.union([], "dense")
    return types


def _table_types(head: bytes, split: Split) -> dict[str, pa.DataType]:
    def read(text: bytes, kinds: Mapping[str, pa.DataType]) -> pa.Table:
        reading = pa.csv.ReadOptions(block_size=len(text) + 1, use_threads=False)
        convert = pa.csv.ConvertOptions(column_types=kinds)
        parsing = dialect(split, lambda row: "skip")
        return pa.csv.read_csv(pa.BufferReader(text), reading, parsing, convert)

    try:
        schema = read(head, {}).schema
        integers = [field.name for field in schema if pa.types.is_integer(field.type)]
        texts = read(head, dict.fromkeys(integers, pa.string())).columns
    except (pa.ArrowException, ValueError):  # of a row that is cut, or no UTF-8
        header = read(head.partition(b"\n")[0] + b"\n", {})
        return dict.fromkeys(header.column_names, pa.string())
    types = {}
    for field, values in zip(schema, texts, strict=True):
        types[field.name] = pa.string()
        is_whole = pa.types.is_integer(field.type)
        if not (is_whole and pc.any(pc.match_substring_regex(values, _CODE)).as_py()):
            with contextlib.suppress(TypeError):
                types[field.name] = plain_type(field.type)
    return types
