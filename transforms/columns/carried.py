"""Columns of the input that go with its pairs to every file of the output, each in its own type."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json

from alignset.transforms.columns.hashing import Bools, UInt64s, pair_keys, string_hashes

# Before their names on the way from source to shard: what begins with "source_" goes with a pair.
CARRIED = "source_:"
MOST_DECODING_BYTES = 1 << 28
_MOST_LEVELS = 64  # msgspec and pickle end at some hundred
WRONG_TYPE = "wrong_type"  # a pair is malformed whose value does not fit its column
_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # of a second
_FIRST_DAY, _DAY_10000 = -719_162, 2_932_897  # of year 1 and behind year 9999, in days from 1970
_NAMES = {"double": "float64", "float": "float32", "date32[day]": "date32"}
_TIME = re.compile(r"timestamp\[(s|ms|us|ns)(?:, tz=(.+))?\]")


def plain_type(kind: pa.DataType, levels: int = _MOST_LEVELS) -> pa.DataType:
    """The type that values are carried in: without dictionaries, views and extensions.

    A time zone that this machine does not know becomes UTC: the instants stay the same.

    Args:
      levels: how many lists and structs may be within each other.

    Raises:
      TypeError: `KEY.json` cannot hold such values.
    """
    types = pa.types
    if types.is_dictionary(kind):
        return plain_type(kind.value_type, levels)
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type, levels)
    if is_list(kind):
        return pa.list_(plain_type(kind.value_type, _one_less(levels)))
    if types.is_struct(kind):
        if len({field.name for field in kind}) < kind.num_fields:
            raise TypeError(f"{kind} has two fields of one name")
        within = _one_less(levels)
        return pa.struct([(field.name, plain_type(field.type, within)) for field in kind])
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_float16(kind):
        return pa.float32()
    if types.is_date(kind):
        return pa.date32()
    scalar = types.is_integer(kind) or types.is_floating(kind) or types.is_timestamp(kind)
    if scalar or types.is_boolean(kind) or types.is_null(kind):
        try:
            pa.nulls(1, kind).cast(pa.string())
        except pa.ArrowException:
            return pa.timestamp(kind.unit, "UTC")
        return kind
    raise TypeError(f"{kind} is neither text, number, time, list nor struct")


def _one_less(levels: int) -> int:
    if not levels:
        raise TypeError(f"it has more than {_MOST_LEVELS} lists and structs within each other")
    return levels - 1


def is_list(kind: pa.DataType) -> bool:
    """Whether it is a list of any of Arrow's forms."""
    types = pa.types
    any_size = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return any_size or types.is_list_view(kind) or types.is_large_list_view(kind)


def json_type(kind: pa.DataType) -> pa.DataType:
    """The type of the same values in JSON, where times are text."""
    if pa.types.is_list(kind):
        return pa.list_(json_type(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, json_type(field.type)) for field in kind])
    return pa.string() if pa.types.is_temporal(kind) else kind


def type_name(kind: pa.DataType) -> Any:
    """A carried type as the manifest has it: a name, {"list": type} or {"struct": {name: type}}."""
    if pa.types.is_list(kind):
        return {"list": type_name(kind.value_type)}
    if pa.types.is_struct(kind):
        return {"struct": {field.name: type_name(field.type) for field in kind}}
    return _NAMES.get(str(kind), str(kind))


def type_of(name: str) -> pa.DataType:
    """The type that a manifest, which may be anybody's, names; text where there is no such type."""
    if time := _TIME.fullmatch(name):
        return pa.timestamp(time[1], time[2])
    try:
        return pa.type_for_alias(name)
    except ValueError:
        return pa.string()


def json_values(column: pa.Array) -> list[Any]:
    """The values of a carried column as JSON has them; NaN, which JSON has not, as null."""
    values = column.cast(json_type(column.type)).to_pylist()
    return list(msgspec.json.decode(msgspec.json.encode(values)))


def carried_columns(
    rows: pa.RecordBatch | pa.Table, fields: Iterable[pa.Field]
) -> dict[str, pa.Array]:
    """The carried columns of rows by the names that they have in the output; null where an earlier
    step had none.

    Args:
      rows: columns whose names begin with `CARRIED`.
    """
    columns = {}
    for field in fields:
        if CARRIED + field.name in rows.schema.names:
            column = rows[CARRIED + field.name]
            columns[field.name] = column.combine_chunks() if isinstance(rows, pa.Table) else column
        else:
            columns[field.name] = pa.nulls(len(rows), field.type)
    return columns


def value_hashes(column: pa.Array) -> UInt64s:
    """Hashes the values of a column in a carried type: uint64[n]; a null is not an empty value."""
    kind, size = column.type, len(column)
    if pa.types.is_struct(kind):
        hashes = np.ones(size, np.uint64)
        for values in column.flatten():
            hashes = pair_keys(hashes, value_hashes(values))
    elif pa.types.is_list(kind):
        stops = np.cumsum(pc.fill_null(pc.list_value_length(column), 0), dtype=np.int32)
        offsets = np.append(np.int32(0), stops * np.int32(8))
        buffers = [None, *map(pa.py_buffer, (offsets, value_hashes(column.flatten())))]
        hashes = string_hashes(pa.BinaryArray.from_buffers(pa.binary(), size, buffers))
    elif pa.types.is_primitive(kind):  # to print numbers would take three times as long
        if pa.types.is_temporal(kind):
            column = column.view(pa.int32() if pa.types.is_date(kind) else pa.int64())
        elif pa.types.is_boolean(kind):
            column = column.cast(pa.uint8())
        elif pa.types.is_floating(kind):  # one NaN for all
            column = pc.if_else(pc.is_nan(column), pa.scalar(np.nan, kind), column)
        numbers = pc.fill_null(column, 0).to_numpy()
        bits = numbers.view(f"u{numbers.itemsize}").astype(np.uint64)
        hashes = pair_keys(np.ones(size, np.uint64), bits)
    else:
        hashes = string_hashes(column.cast(pa.string()))
    hashes[column.is_null().to_numpy(zero_copy_only=False)] = 0
    return hashes


def typed(column: pa.Array, kind: pa.DataType) -> tuple[pa.Array, Bools | None]:
    """A column in a carried type, and which values do not fit, bool[n]: these are null. None where
    all fit. A text that is not UTF-8 and a time before year 1 or after 9999 fit no column. Text of
    a table in text (binary) is cast to what it stands for."""
    if pa.types.is_binary(column.type) and kind != pa.string():
        column = pc.ascii_trim_whitespace(column.view(pa.string())).view(pa.binary())
        empty = pa.array([b"", *map(str.encode, pa.csv.ConvertOptions().null_values)])
        column = pc.if_else(pc.is_in(column, empty), pa.scalar(None, pa.binary()), column)
    return _writable(*_each_if_not_all(column, kind, _cast))


def _cast(values: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_binary(values.type):
        values = values.cast(pa.string())
    if decoding_bytes(values) > MOST_DECODING_BYTES:
        return pa.array(values.to_pylist(), kind)
    return values if values.type == kind else values.cast(kind)


def decoding_bytes(values: pa.Array) -> int:
    """The bytes that Arrow sets aside to decode dictionaries: for each row the mean of its
    dictionary, even where one text of 1 MB is in few of 131,072 rows."""
    if isinstance(values, pa.DictionaryArray):
        return values.dictionary.nbytes * len(values) // max(1, len(values.dictionary))
    if is_list(values.type) or pa.types.is_struct(values.type):
        inner = values.flatten()
        return sum(map(decoding_bytes, [inner] if isinstance(inner, pa.Array) else inner))
    return 0


def json_column(values: Sequence[Any], kind: pa.DataType) -> tuple[pa.Array, Bools | None]:
    """Values out of JSON as a column in a carried type, and which do not fit, as `typed`."""
    return _writable(*_each_if_not_all(values, kind, _read_json))


def _read_json(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if not values:
        return pa.nulls(0, kind)
    lines = b"\n".join(msgspec.json.encode({"value": value}) for value in values)
    schema = pa.schema([("value", json_type(kind))])
    parsing = pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    reading = pa.json.ReadOptions(block_size=len(lines) + 1, use_threads=False)
    table = pa.json.read_json(pa.BufferReader(lines), reading, parsing)
    return table["value"].combine_chunks().cast(kind)


def _each_if_not_all(
    values: Any, kind: pa.DataType, convert: Callable[[Any, pa.DataType], pa.Array]
) -> tuple[pa.Array, Bools | None]:
    """All values converted at once, or where that fails, each by itself."""
    failures = (pa.ArrowException, ValueError, TypeError, OverflowError, RecursionError)
    try:
        return convert(values, kind), None
    except failures:
        pass
    parts, wrong = [pa.nulls(0, kind)], np.zeros(len(values), np.bool_)
    for row in range(len(values)):
        try:
            parts.append(convert(values[row : row + 1], kind))
        except failures:
            parts.append(pa.nulls(1, kind))
            wrong[row] = True
    return pa.concat_arrays(parts), wrong


def _writable(values: pa.Array, wrong: Bools | None) -> tuple[pa.Array, Bools | None]:
    """The same without the values that `KEY.json` cannot hold, or that cannot be read from it."""
    unwritable = _unwritable(values)
    if not unwritable.any():
        return values, wrong
    values = values.take(pa.array(np.arange(len(values)), mask=unwritable))
    return values, unwritable if wrong is None else wrong | unwritable


def _unwritable(values: pa.Array) -> Bools:
    """bool[n]: which values are or hold a text that is not UTF-8, or a time outside of the years
    that ISO 8601 has four digits for."""
    kind = values.type
    if pa.types.is_list(kind):
        inner = np.append(0, np.cumsum(_unwritable(values.flatten())))
        stops = np.append(0, np.cumsum(pc.fill_null(pc.list_value_length(values), 0)))
        return np.diff(inner[stops]) > 0
    if pa.types.is_struct(kind):
        fields = map(_unwritable, values.flatten())
        return np.logical_or.reduce([np.zeros(len(values), np.bool_), *fields])
    if pa.types.is_string(kind):
        try:
            values.validate(full=True)
        except pa.ArrowInvalid:
            texts = [text or b"" for text in values.view(pa.binary()).to_pylist()]
            return np.array([text.decode(errors="ignore").encode() != text for text in texts])
    elif pa.types.is_temporal(kind):
        days = 1 if pa.types.is_date(kind) else _TICKS[kind.unit] * 86_400
        # The local day may be the one before or after.
        margin = days if pa.types.is_timestamp(kind) and kind.tz not in (None, "UTC") else 0
        counts = pc.fill_null(values.view(pa.int32() if days == 1 else pa.int64()), 0).to_numpy()
        return (counts < _FIRST_DAY * days + margin) | (counts >= _DAY_10000 * days - margin)
    return np.zeros(len(values), np.bool_)
