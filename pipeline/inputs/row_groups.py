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

from alignset.transforms.columns.pair_columns import PAGE_URL

STRINGS = ("url", "caption", PAGE_URL)
BATCH_BYTES = 1 << 25  # of these; 65,536 usual pairs have a third of it
# Rows read at once where each value may share 1 MB with the one before (Parquet's DELTA_BYTE_ARRAY,
# which Spark may choose): a page of 1 MB then holds 20 GB, and pyarrow makes no dictionary of it.
SHARED_ROWS = 64
ROWS_AT_ONCE = 1 << 17  # of a row group; whatever --batch_rows is, since a fault ends such a step
DECODED_BYTES = 1 << 28  # of a column that a batch of Parquet may take before it is cut


class RowGroups:
    """The row groups of a Parquet file.

    Args:
      names: the columns that are `STRINGS`. others: further ones. carried_sources: columns of any
        type, by the names that they get.
    """

    def __init__(
        self, source: Any, names: list[str], others: list[str], carried_sources: Mapping[str, str]
    ) -> None:
        self.source, self.names = source, names
        self.footer = pq.read_metadata(source)
        self.others = {**{name: name for name in others}, **carried_sources}
        self.carried_sources = set(carried_sources.values())
        paths = (self.footer.schema.column(at).path for at in range(self.footer.num_columns))
        self.flat = sorted(self.carried_sources.intersection(paths))  # neither lists nor structs
        # A page without a checksum passes.
        checks = {"pre_buffer": False, "page_checksum_verification": True}
        self.options = {"metadata": self.footer, **checks}

    def read(self, group: int) -> Iterator[pa.RecordBatch]:
        """The rows of one, in batches of at most ROWS_AT_ONCE."""
        rows, shared_columns = self._rows_at_once(group)
        alone = [n for n in dict.fromkeys([*self.names, *self.flat]) if n not in shared_columns]
        repeats = _long_repeats(self.source, alone, group, rows, self.options)
        file = pq.ParquetFile(self.source, read_dictionary=repeats, **self.options)
        few = min(rows, SHARED_ROWS) if shared_columns else rows
        columns = [*dict.fromkeys([*self.names, *self.others.values()])]
        for batch in file.iter_batches(batch_size=few, row_groups=[group], columns=columns):
            names = [*STRINGS[: len(self.names)], *self.others]
            values = [batch[name] for name in (*self.names, *self.others.values())]
            yield pa.record_batch(values, names=names)

    def _rows_at_once(self, group: int) -> tuple[int, set[str]]:
        """How many rows a batch may have, and the columns whose values may share their bytes."""
        rows, shared_columns = ROWS_AT_ONCE, set()
        metadata = self.footer.row_group(group)
        for place, column in enumerate(map(metadata.column, range(metadata.num_columns))):
            root = column.path_in_schema.partition(".")[0]
            is_carried = {root, column.path_in_schema} & self.carried_sources
            if metadata.num_rows and (column.path_in_schema in self.names or is_carried):
                size = column.total_uncompressed_size / metadata.num_rows
                size = max(size, self.footer.schema.column(place).length or 1)  # where it is fixed
                rows = min(rows, max(1, int(BATCH_BYTES / size)))
                is_text = column.physical_type == "BYTE_ARRAY" or not is_carried
                if is_text and any("DELTA" in encoding for encoding in column.encodings):
                    shared_columns.add(column.path_in_schema)
        return rows, shared_columns


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


def _long_repeats(
    source: Any, names: list[str], group: int, rows: int, options: dict[str, Any]
) -> list[str]:
    """The columns to leave as dictionaries until a batch is cut: where every row had the longest
    value of one, so many rows would be vast. A file of 180 KB may hold one of 1 MB 20,000 times."""
    # 64 KiB at once: the dictionaries come first, 3 ms for one of usual size.
    file = pq.ParquetFile(source, read_dictionary=names, buffer_size=1 << 16, **options)
    long = set()
    reading = {"batch_size": 1, "row_groups": [group], "columns": names, "use_threads": False}
    for batch in islice(file.iter_batches(**reading), 1):
        for name in names:
            longest = string_sizes(getattr(batch[name], "dictionary", batch[name])).max(initial=0)
            if longest * rows > DECODED_BYTES:
                long.add(name)
    return sorted(long)


def string_sizes(values: pa.Array) -> npt.NDArray[np.int64]:
    """The bytes of each value as a string, int64[n]; numbers are not counted."""
    if isinstance(values, pa.DictionaryArray):
        sizes = np.append(string_sizes(values.dictionary), 0)
        return sizes[pc.fill_null(values.indices.cast(pa.int64()), len(sizes) - 1).to_numpy()]
    kind = values.type
    if kind in (pa.string_view(), pa.binary_view()):
        values = values.cast(pa.large_binary())
    elif kind not in (pa.string(), pa.binary(), pa.large_string(), pa.large_binary()):
        return np.zeros(len(values), np.int64)
    return pc.fill_null(pc.binary_length(values), 0).to_numpy().astype(np.int64)
