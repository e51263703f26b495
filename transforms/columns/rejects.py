"""Dropped pairs: every one is written down with its step, reason and detail."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.columns.pair_columns import LANGUAGE_COLUMNS, PAGE_URL

REJECTED = pa.schema(
    [
        ("key", pa.string()),
        ("url", pa.string()),
        ("caption", pa.string()),
        ("step", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("also_reasons", pa.string()),  # further reasons of the text stage that apply
        (PAGE_URL, pa.string()),
        # Of doubles: as a float, a score just below the threshold would be shown as the threshold.
        ("language_score", pa.float64()),
        ("width", pa.int32()),  # px, of an image that could be looked at
        ("height", pa.int32()),
        ("unsafe_score", pa.float64()),
        ("evaluation_set", pa.string()),
        ("evaluation_image", pa.string()),
        ("evaluation_distance", pa.float64()),
        ("evaluation_numbers", pa.string()),  # JSON: what the measure found on the way
        ("thumbnail", pa.binary()),  # JPEG, of a copy of an evaluation image or an example
    ]
)
_FIRST_FURTHER = REJECTED.get_field_index("detail") + 1


def key_column(keys: npt.NDArray[np.uint64]) -> pa.StringArray:
    """uint64[n] keys as 16 hex digits each, the most significant first: string[n]."""
    digits = keys.astype(">u8").tobytes().hex().encode()
    ends = np.arange(len(keys) + 1, dtype=np.int32) * 16
    return pa.StringArray.from_buffers(len(keys), pa.py_buffer(ends), pa.py_buffer(digits))


def keys_of(column: pa.ChunkedArray | pa.Array) -> npt.NDArray[np.uint64]:
    """uint64[n] of keys or perceptual hashes that are written as 16 hex digits; 0 of a null."""
    digits = pc.fill_null(column, "0" * 16).to_pylist()
    return np.frombuffer(bytes.fromhex("".join(digits)), ">u8").astype(np.uint64)


def with_columns(schema: pa.Schema, columns: Iterable[str | pa.Field]) -> pa.Schema:
    """A schema with further columns behind its own: of the types of their fields; columns that are
    only named have numbers, except languages."""
    for column in columns:
        if isinstance(column, str):
            kind = pa.string() if column in LANGUAGE_COLUMNS else pa.float64()
            column = pa.field(column, kind)
        schema = schema.append(column)
    return schema


def with_values(table: pa.Table, columns: Mapping[str, pa.Array | pa.ChunkedArray]) -> pa.Table:
    """A table with some columns, in place of those that have their names."""
    there = dict(zip(table.column_names, table.columns, strict=True))
    return pa.table(there | dict(columns)).combine_chunks()


def pages_of(rows: pa.RecordBatch) -> pa.StringArray:
    """The column `page_url`, string[n]; null where the source knows no page."""
    if PAGE_URL in rows.schema.names:
        return rows[PAGE_URL]
    return pa.nulls(len(rows), pa.string())


def rejected_rows(
    pairs: pa.RecordBatch,
    reasons: pa.StringArray,
    details: pa.StringArray,
    steps: Mapping[str, str],
    measures: Mapping[str, pa.Array] | None = None,
    schema: pa.Schema = REJECTED,
) -> pa.RecordBatch:
    """The dropped pairs of a batch in the form in which they are written.

    Args:
      pairs: columns `key` (uint64[n]), `url`, `caption` and perhaps `page_url`
        (string[n]).
      reasons: string[n], null for the kept. details: string[n] or null.
      steps: of the stage, by reason.
      measures: further columns by name, n rows each; those that are not here are null.
      schema: REJECTED, or that `with_columns` of rules of users.
    """
    is_dropped = reasons.is_valid()
    rows = pairs.filter(is_dropped)
    why = reasons.filter(is_dropped)
    further = {PAGE_URL: pages_of(pairs), **(measures or {})}
    names = pc.dictionary_encode(why)
    of_reasons = pa.array([steps[reason] for reason in names.dictionary.to_pylist()], pa.string())
    return pa.record_batch(
        [
            key_column(rows["key"].to_numpy()),
            rows["url"],
            rows["caption"],
            of_reasons.take(names.indices),
            why,
            details.filter(is_dropped),
            *(
                pa.nulls(len(rows), field.type)
                if (column := further.get(field.name)) is None
                else column.filter(is_dropped)
                for field in list(schema)[_FIRST_FURTHER:]
            ),
        ],
        schema=schema,
    )


def without_contents(rows: pa.RecordBatch, which: pa.BooleanArray) -> pa.RecordBatch:
    """Rows of REJECTED, some of them with key, step, reason and detail alone: without URL, text,
    page or image.

    Args:
      which: bool[n].
    """
    if not pc.any(which).as_py():
        return rows
    names = ("key", "step", "reason", "detail")
    columns = [
        rows[name]
        if name in names
        else pc.if_else(which, pa.scalar(None, rows[name].type), rows[name])
        for name in rows.schema.names
    ]
    return pa.record_batch(columns, schema=rows.schema)
