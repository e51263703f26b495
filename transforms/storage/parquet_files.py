"""Parquet files written as their rows come, whole or not at all."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alignset.transforms.storage.broken_files import (
    DAMAGED,
    BrokenInputError,
    FileFault,
    broken_file,
)
from alignset.transforms.storage.files import open_to_read, publish

ROWS_PER_GROUP = 1 << 16
ROWS_AT_ONCE = 1 << 15  # read of a file
BYTES_PER_GROUP = 1 << 26  # of strings; usual rows have a sixth of it
_FEW_ROWS = 1 << 6  # where each value may share 1 MB with the one before
_MOST_ROWS, _MOST_BYTES = 1 << 16, 1 << 25  # of a batch of `read_columns`
_LONGEST, _LONGEST_BINARY = 120, 1 << 16  # characters of a text, bytes of a thumbnail


class RowWriter:
    """Gathers rows to row groups cut by the rows alone, so that the bytes do not depend on the
    batches: a group ends where it has enough rows, or enough bytes of strings."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self._writer = writer
        self._batches: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Adds rows."""
        ends = string_bytes(batch)  # of each row, from the batch's start
        start = bytes_before = 0
        while start < len(batch):
            full = int(np.searchsorted(ends, bytes_before + BYTES_PER_GROUP - self._bytes)) + 1
            stop = min(full, start + ROWS_PER_GROUP - self._rows, len(batch))
            self._batches.append(batch.slice(start, stop - start))
            self._rows += stop - start
            self._bytes += int(ends[stop - 1]) - bytes_before
            start, bytes_before = stop, int(ends[stop - 1])
            if self._rows == ROWS_PER_GROUP or self._bytes >= BYTES_PER_GROUP:
                self.finish()

    def finish(self) -> None:
        """Writes the rows that are not yet written."""
        if self._rows:
            self._writer.write_table(pa.Table.from_batches(self._batches))
        self._batches, self._rows, self._bytes = [], 0, 0

    def note(self, metadata: dict[bytes, bytes]) -> None:
        """Adds to the file's own metadata."""
        self._writer.add_key_value_metadata(metadata)


class _FooterIsSoundError(Exception):
    pass


class _FileOfSize(io.RawIOBase):
    """A file that has a size and no bytes. Reading it raises: all checks before passed."""

    def __init__(self, size: int) -> None:
        self._size, self._at = size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        raise _FooterIsSoundError


def read_footer(source: Any) -> pq.FileMetaData:
    """Reads what a Parquet file says of itself.

    Raises:
      FileFault: it cannot be true: columns lie beyond the file's end, or contradict themselves.
        `column(at)` of such a footer would end the process (pyarrow 25).
    """
    footer = pq.read_metadata(source)
    # A reader raises instead, and finds all columns before it reads the first byte.
    unread = pa.PythonFile(_FileOfSize(source.seek(0, io.SEEK_END)), "r")
    groups = range(footer.num_row_groups)
    try:
        file = pq.ParquetFile(unread, metadata=footer, pre_buffer=True)
        next(file.iter_batches(batch_size=1, row_groups=groups, use_threads=False), None)
    except _FooterIsSoundError:
        pass
    except (OSError, pa.ArrowException) as error:
        raise FileFault(DAMAGED, f"its footer cannot be true: {error}") from error
    return footer


def string_bytes(batch: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """The bytes of strings of the rows up to each, int64[n]."""
    ends = np.zeros(len(batch), np.int64)
    for column in batch.columns:
        if pa.types.is_string(column.type):
            # Here, since it brings numba, of which most readers have no use.
            from alignset.transforms.columns.hashing import string_buffers

            _, offsets = string_buffers(column)
            ends += offsets[1:] - offsets[0]
    return ends


@contextmanager
def parquet_file(path: str, schema: pa.Schema, scratch: str | None) -> Iterator[RowWriter]:
    """A Parquet file under way; it is published where the block ends without an error.

    A file without rows is published too: it replaces the file of an attempt that was killed.

    Args:
      scratch: a folder on this machine, on the disk of a local `path`; None for the system's own.

    Raises:
      FileNotFoundError: `scratch` is gone: its run has ended, and no file of it may come back.
    """
    # Keys, URLs and texts hardly repeat: to look for it costs a fifth of the writing. A key's or
    # text's least and greatest say nothing, and keys without their lengths between compress better.
    how = {
        "use_dictionary": [n for n in schema.names if n in ("step", "reason", "detail")] or False,
        "write_statistics": [name for name in schema.names if name not in ("key", "caption")],
        "column_encoding": {n: "DELTA_LENGTH_BYTE_ARRAY" for n in schema.names if n == "key"},
    }
    with tempfile.TemporaryDirectory(prefix="rows-", dir=scratch) as folder:
        aside = Path(folder) / "rows.parquet"
        with pq.ParquetWriter(aside, schema, compression="zstd", **how) as writer:
            rows = RowWriter(writer)
            yield rows
            rows.finish()
        publish(aside, path)


def write_batches(
    path: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch], scratch: str | None
) -> None:
    """Writes batches to a Parquet file, as `parquet_file` has it."""
    with parquet_file(path, schema, scratch) as file:
        for batch in batches:
            file.write(batch)


@contextmanager
def named(path: str) -> Iterator[None]:
    """Within, a fault of a file raises BrokenInputError, which names it."""
    try:
        yield
    except Exception as error:
        fault = broken_file(path, error)
        if fault is None:
            raise
        raise BrokenInputError(
            f"{path} cannot be read: {fault.fault}; replace the file, or take it out of the dataset"
        ) from error


def read_rows(path: str, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a Parquet file of any file system; all columns where none are named.

    Raises:
      BrokenInputError: the file is damaged; so do all that read one here.
    """
    with named(path), open_to_read(path) as source:
        # `read_table` imports pyarrow.dataset, for 0.1 s.
        return pq.ParquetFile(source).read(None if columns is None else list(columns))


def batches_of(path: str, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The same, some thousands of rows at a time."""
    with named(path), open_to_read(path) as source, pq.ParquetFile(source) as file:
        yield from file.iter_batches(ROWS_AT_ONCE, columns=columns)


def schema_of(path: str) -> pa.Schema:
    """The columns of a Parquet file of any file system."""
    with named(path), open_to_read(path) as source:
        return pq.read_schema(source)


def read_columns(
    path: str,
    columns: pa.Schema,
    longest: int = _LONGEST,
    longest_binary: int = _LONGEST_BINARY,
) -> Iterator[pa.RecordBatch]:
    """Reads some columns of a Parquet file, some rows at a time, as `columns` has them; null where
    the file has no such column, or a value is of another type. Texts are cut to `longest`
    characters, and bytes are null where they are more than a thumbnail's: 300 KB may hold 1 MB
    16,384 times.
    """
    with named(path), open_to_read(path) as source:
        footer = read_footer(source)
        schema = footer.schema.to_arrow_schema()
        names = [
            name
            for name in columns.names
            if schema.names.count(name) == 1 and not pa.types.is_nested(schema.field(name).type)
        ]
        rows, dictionaries = _batch_rows(footer, names)
        rows = min(rows, _MOST_BYTES // longest)
        rows = min(rows, 4 * _FEW_ROWS) if pa.binary() in columns.types else rows
        file = pq.ParquetFile(source, metadata=footer, read_dictionary=dictionaries)
        if not names:
            for start in range(0, footer.num_rows, _MOST_ROWS):
                size = min(_MOST_ROWS, footer.num_rows - start)
                nulls = [pa.nulls(size, of.type) for of in columns]
                yield pa.record_batch(nulls, schema=columns)
            return
        for batch in file.iter_batches(rows, columns=names, use_threads=False):
            arrays = [
                _plain(batch[of.name], of.type, longest, longest_binary)
                if of.name in names
                else pa.nulls(len(batch), of.type)
                for of in columns
            ]
            yield pa.record_batch(arrays, schema=columns)


def _batch_rows(footer: pq.FileMetaData, names: Sequence[str]) -> tuple[int, list[str]]:
    """How many rows a batch may have, and the columns that are read as dictionaries. Any other
    column takes as many bytes in memory as the footer says."""
    rows, dictionaries = _MOST_ROWS, set[str]()
    for group in map(footer.row_group, range(footer.num_row_groups)):
        for at, column in enumerate(map(group.column, range(group.num_columns))):
            # The row group may give another name, and hide how long its values are.
            name, encodings = footer.schema.column(at).path, set(column.encodings)
            if name not in names or column.physical_type not in (
                "BYTE_ARRAY",
                "FIXED_LEN_BYTE_ARRAY",
            ):
                continue
            if "DELTA_BYTE_ARRAY" in encodings:
                rows = min(rows, _FEW_ROWS)
            elif encodings & {"PLAIN_DICTIONARY", "RLE_DICTIONARY"}:
                dictionaries.add(name)
            size = max(1, column.total_uncompressed_size) / max(1, group.num_rows)
            rows = min(rows, max(1, int(_MOST_BYTES / size)))
    return rows, sorted(dictionaries)


def _plain(values: pa.Array, kind: pa.DataType, longest: int, longest_binary: int) -> pa.Array:
    """Values of another type, which need not be values of that; texts are cut."""
    if isinstance(values, pa.DictionaryArray):
        used = pc.unique(values.indices)  # a whole dictionary may have a million values
        short = _plain(values.dictionary.take(used), kind, longest, longest_binary)
        return short.take(pc.index_in(values.indices, used))
    try:
        values = values.cast(kind, safe=False)
        if kind == pa.binary():
            is_short = pc.less_equal(pc.binary_length(values), longest_binary)
            values = pc.if_else(is_short, values, None)
        elif kind == pa.string():
            if (pc.max(pc.binary_length(values)).as_py() or 0) > longest:
                values = pc.utf8_slice_codeunits(values, 0, longest)
            values.validate(full=True)  # whether it is UTF-8
    except pa.ArrowException:
        return pa.nulls(len(values), kind)
    return values
