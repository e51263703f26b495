"""The row groups of a Parquet file as batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alignset.transforms.columns.pair_columns import PAGE_URL, UNREADABLE
from alignset.transforms.storage.broken_files import DAMAGED, FileFault
from alignset.transforms.storage.parquet_files import read_footer

STRINGS = ("url", "caption", PAGE_URL)
BATCH_BYTES = 1 << 25  # of these; 65,536 usual pairs have a third of it
# Rows read at once where each value may share 1 MB with the one before (Parquet's DELTA_BYTE_ARRAY,
# which Spark may choose): a page of 1 MB then holds 20 GB, and pyarrow makes no dictionary of it.
SHARED_ROWS = 64
ROWS_AT_ONCE = 1 << 17  # of a row group; whatever --batch_rows is, since a fault ends such a step
DECODED_BYTES = 1 << 28  # of a column that a batch of Parquet may take before it is cut
# A text of LONG_BYTES or more is hardly repeated, and zstd makes a tenth of usual ones.
LONG_BYTES, FREE_BYTES, MOST_TIMES = 1 << 12, 1 << 26, 1 << 7


def check_footer(footer: pq.FileMetaData, file_bytes: int) -> None:
    """Checks what a footer says of columns that lie beside each other in a file.

    Raises:
      FileFault: they take more bytes than the file has; so they share some.
      UnicodeDecodeError: a name is not UTF-8.
    """
    for at in range(footer.num_columns):
        _ = footer.schema.column(at).path
    claimed = sum(
        max(0, footer.row_group(group).column(at).total_compressed_size)
        for group in range(footer.num_row_groups)
        for at in range(footer.num_columns)
    )
    if claimed > file_bytes:
        fault = f"its columns would take {claimed:,} bytes, and it has {file_bytes:,}"
        raise FileFault(DAMAGED, fault)


class RowGroups:
    """The row groups of a Parquet file.

    A file of 80 KB may hold a text of 1 MB in each of a million rows, or name the same bytes in all
    of its row groups. So values of LONG_BYTES are read up to FREE_BYTES and MOST_TIMES the bytes of
    their column in the file; rows with further long values are unreadable.

    Args:
      columns: the columns to read, by the names that they get.
    """

    def __init__(self, source: Any, columns: Mapping[str, str]) -> None:
        self.source, self.columns = source, columns
        self.footer = read_footer(source)
        self.texts = {columns[name] for name in STRINGS if name in columns}
        # By the column, the leaves of lists and structs, too.
        self.leaves: dict[str, list[int]] = {name: [] for name in columns.values()}
        for at in range(self.footer.num_columns):
            path = self.footer.schema.column(at).path
            for name in {path, path.partition(".")[0]} & self.leaves.keys():
                self.leaves[name].append(at)
        # A page without a checksum passes.
        checks = {"pre_buffer": False, "page_checksum_verification": True}
        self.options = {"metadata": self.footer, **checks}

    def read(self, group: int) -> Iterator[pa.RecordBatch]:
        """The rows of one, in batches of at most ROWS_AT_ONCE.

        Raises:
          FileFault: too many of its long values share their bytes with the one before.
        """
        rows, shared_columns, nested_texts = self._rows_at_once(group)
        paths = self.footer.schema.column
        flat = [name for name, at in self.leaves.items() if [paths(i).path for i in at] == [name]]
        repeats = self._long_repeats([n for n in flat if n not in shared_columns], group, rows)
        file = pq.ParquetFile(self.source, read_dictionary=repeats + nested_texts, **self.options)
        few = min(rows, SHARED_ROWS) if shared_columns else rows
        metadata, budgets = self.footer.row_group(group), {}
        for name, leaves in self.leaves.items():
            sizes = (metadata.column(at).total_compressed_size for at in leaves)
            share = FREE_BYTES // self.footer.num_row_groups
            budgets[name] = share + MOST_TIMES * sum(max(0, size) for size in sizes)
        for batch in file.iter_batches(batch_size=few, row_groups=[group], columns=[*self.leaves]):
            of_file = {name: batch[name] for name in self.leaves}
            is_over = _take_out_long_values(of_file, len(batch), budgets)
            pairs = {name: of_file[source] for name, source in self.columns.items()}
            if is_over.any():
                faults = pairs.get("malformed", pa.nulls(len(batch), pa.string()))
                pairs["malformed"] = pc.if_else(pa.array(is_over), UNREADABLE, faults)
            yield pa.record_batch(pairs)
            if any(budgets[name] < 0 for name in shared_columns):
                fault = f"its row group {group} holds values that share too many bytes"
                raise FileFault(DAMAGED, fault)

    def _rows_at_once(self, group: int) -> tuple[int, set[str], list[str]]:
        """How many rows a batch may have, the columns whose values may share their bytes, and the
        paths of texts within lists and structs."""
        rows, shared_columns, nested_texts = ROWS_AT_ONCE, set(), []
        metadata = self.footer.row_group(group)
        for name, leaves in self.leaves.items():
            for at in leaves if metadata.num_rows else ():
                column = metadata.column(at)
                size = column.total_uncompressed_size / metadata.num_rows
                size = max(size, self.footer.schema.column(at).length or 1)  # where it is fixed
                rows = min(rows, max(1, int(BATCH_BYTES / size)))
                is_text = column.physical_type == "BYTE_ARRAY" or name in self.texts
                if is_text and any("DELTA" in encoding for encoding in column.encodings):
                    shared_columns.add(name)
                # By the schema's name: the row group may give another, which no reader has.
                elif is_text and (path := self.footer.schema.column(at).path) != name:
                    nested_texts.append(path)
        return rows, shared_columns, nested_texts

    def _long_repeats(self, names: list[str], group: int, rows: int) -> list[str]:
        """The columns to leave as dictionaries until a batch is cut: where every row had the
        longest value of one, so many rows would be vast. A file of 180 KB may hold one of 1 MB
        20,000 times."""
        # 64 KiB at once: the dictionaries come first, 3 ms for one of usual size.
        options = {"read_dictionary": names, "buffer_size": 1 << 16, **self.options}
        file = pq.ParquetFile(self.source, **options)
        long = set()
        reading = {"batch_size": 1, "row_groups": [group], "columns": names, "use_threads": False}
        for batch in islice(file.iter_batches(**reading), 1):
            for name in names:
                longest = string_sizes(getattr(batch[name], "dictionary", batch[name]))
                if longest.max(initial=0) * rows > DECODED_BYTES:
                    long.add(name)
        return sorted(long)


def _take_out_long_values(
    columns: dict[str, pa.Array], rows: int, budgets: dict[str, int]
) -> npt.NDArray[np.bool_]:
    """Takes the long values that a budget has no bytes for out of the columns, and their bytes off
    the budgets; bool[n]: which rows had one."""
    is_over = np.zeros(rows, np.bool_)
    for name in budgets.keys() & columns.keys():
        sizes = string_sizes(columns[name])
        if sizes.max(initial=0) < LONG_BYTES:
            continue
        used = np.cumsum(np.where(sizes >= LONG_BYTES, sizes, 0))
        mask = (sizes >= LONG_BYTES) & (used > budgets[name])
        if mask.any():
            columns[name] = columns[name].take(pa.array(np.arange(len(mask)), mask=mask))
        budgets[name] -= int(used[-1])
        is_over |= mask
    return is_over


def join_batches(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Neighbouring batches of the same columns as one, of at most so many rows and `BATCH_BYTES`
    where they are not more already."""
    parts: list[pa.RecordBatch] = []
    count = size = 0
    for batch in batches:
        full = count + len(batch) > rows or size + batch.nbytes > BATCH_BYTES
        if parts and (full or batch.schema != parts[0].schema):
            yield parts[0] if len(parts) == 1 else pa.concat_batches(parts)
            parts, count, size = [], 0, 0
        parts.append(batch)
        count, size = count + len(batch), size + batch.nbytes
    if parts:
        yield parts[0] if len(parts) == 1 else pa.concat_batches(parts)


def string_sizes(values: pa.Array) -> npt.NDArray[np.int64]:
    """The bytes of each value as a string, int64[n], or of the strings that it holds; numbers are
    not counted."""
    if isinstance(values, pa.DictionaryArray):
        sizes = np.append(string_sizes(values.dictionary), 0)
        return sizes[pc.fill_null(values.indices.cast(pa.int64()), len(sizes) - 1).to_numpy()]
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    kind = values.type
    if pa.types.is_struct(kind):
        return sum(map(string_sizes, values.flatten()), np.zeros(len(values), np.int64))
    if pa.types.is_nested(kind) and not pa.types.is_map(kind):  # a list of any form
        stops = np.cumsum(pc.fill_null(pc.list_value_length(values), 0))
        return np.diff(np.append(0, string_sizes(values.flatten()).cumsum())[np.append(0, stops)])
    if pa.types.is_fixed_size_binary(kind):
        return np.where(values.is_valid(), kind.byte_width, 0).astype(np.int64)
    if kind in (pa.string_view(), pa.binary_view()):
        values = values.cast(pa.large_binary())
    elif kind not in (pa.string(), pa.binary(), pa.large_string(), pa.large_binary()):
        return np.zeros(len(values), np.int64)
    return pc.fill_null(pc.binary_length(values), 0).to_numpy().astype(np.int64)
