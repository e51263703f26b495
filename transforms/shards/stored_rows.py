"""The rows of finished files of a dataset, some thousands at a time, of older versions too."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from alignset.transforms.columns.rejects import REJECTED, with_columns
from alignset.transforms.storage.files import open_to_read

ROWS_AT_ONCE = 1 << 15


def as_rejected(rows: pa.Table) -> pa.Table:
    """Rows of `rejected/` with all columns of this version and of users' rules."""
    return as_columns(rows, with_further(REJECTED, rows.schema))


def with_further(schema: pa.Schema, there: pa.Schema) -> pa.Schema:
    """A schema with the further columns of a file: of languages, of rules of users, and those that
    came from the input."""
    return with_columns(schema, (field for field in there if field.name not in schema.names))


def as_columns(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows of this or an older version with all columns of a schema; null where they have none."""
    columns = [
        rows[field.name].cast(field.type)
        if field.name in rows.column_names
        else pa.nulls(len(rows), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def batches_of(path: str, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a Parquet file, some thousands at a time; all columns where none are named."""
    with open_to_read(path) as source, pq.ParquetFile(source) as file:
        yield from file.iter_batches(ROWS_AT_ONCE, columns=columns)


def rejected_batches(path: str) -> Iterator[pa.RecordBatch]:
    """The rows of a file of `rejected/`, as `as_rejected` has them."""
    for batch in batches_of(path):
        yield from as_rejected(pa.Table.from_batches([batch])).combine_chunks().to_batches()


def rejected_schema(path: str) -> pa.Schema:
    """The columns of a file of `rejected/`, as `as_rejected` has them."""
    with open_to_read(path) as source:
        return with_further(REJECTED, pq.read_schema(source))
