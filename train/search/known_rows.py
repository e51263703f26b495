"""Parquet files with a row for each image, which anybody may have written; and rows of one that is
there, of images whose vectors need not be computed again."""

import bisect
import functools
import itertools
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alignset.train.search.pictures import Picture

# Neither thumbnails nor vectors become smaller, and texts are few beside them.
WRITING: dict[str, Any] = {"compression": "none", "use_dictionary": False}
WRITING |= {"write_statistics": False, "write_page_checksum": True}
_LEAST_BYTES, _MOST_ROWS = 32, 1 << 16  # of a row in the file; of a row group


class RowFile:
    """A file that was written by WRITING; another may hold 1 MB 16,384 times in 300 KB, and is
    refused where it would take more memory than some times its bytes. For one thread at a time.

    Raises:
      ValueError: it was written otherwise; and as Arrow raises, here and where rows are read.
    """

    def __init__(self, path: Path) -> None:
        file, self._size = pq.ParquetFile(path), path.stat().st_size
        groups = [file.metadata.row_group(at) for at in range(file.num_row_groups)]
        chunks = [group.column(at) for group in groups for at in range(group.num_columns)]
        self._ends = [*itertools.accumulate(group.num_rows for group in groups)]
        least = max([_LEAST_BYTES * rows for rows in self._ends], default=0)
        least = max(least, sum(of.total_compressed_size for of in chunks))
        is_odd = any(not 0 <= group.num_rows <= _MOST_ROWS for group in groups)
        if is_odd or least > self._size or {of.compression for of in chunks} - {"UNCOMPRESSED"}:
            raise ValueError("its rows were not written by alignset")
        self.schema, self.metadata = file.schema_arrow, file.metadata.metadata
        # Pages say how texts are encoded, whatever the footer does.
        texts = [field.name for field in self.schema if field.type in (pa.string(), pa.binary())]
        file = pq.ParquetFile(path, read_dictionary=texts, page_checksum_verification=True)
        self._read = file.read
        self._group = functools.lru_cache(8)(lambda at, names: file.read_row_group(at, [*names]))

    def read(self, *names: str) -> pa.Table:
        """Columns of all rows."""
        table = self._read([*names])
        columns = {name: table[name] for name in names}
        for name, column in columns.items():
            if pa.types.is_dictionary(column.type):
                sizes = [pc.binary_length(of.dictionary).take(of.indices) for of in column.chunks]
                if sum(pc.sum(of).as_py() or 0 for of in sizes) > self._size:
                    raise ValueError(f"values of its column {name} share their bytes")
                columns[name] = column.cast(column.type.value_type)
        return pa.table(columns)

    def row(self, number: int, names: tuple[str, ...]) -> dict[str, Any]:
        """Columns of one row, which is read with all of its group."""
        at = bisect.bisect(self._ends, number)
        group = self._group(at, names)
        row: dict[str, Any] = group.slice(number - self._ends[at] + len(group), 1).to_pylist()[0]
        return row


class KnownRows:
    """Finds rows of a Parquet file, which may be replaced meanwhile. For one thread at a time.

    Args:
      path: of the file. Where it is not there, damaged, or another, no row is known.
      columns: that are needed of a row, with their types.
      is_same: whether the file's metadata say that these would be the same now.
    """

    def __init__(self, path: Path, columns: pa.Schema, is_same: Callable[[Any], bool]) -> None:
        self._rows, self._names = dict[tuple[str, str], int](), (*columns.names,)
        with suppress(Exception):  # Arrow raises many kinds
            self._file = RowFile(path)
            types = [self._file.schema.field(name).type for name in self._names]
            if is_same(self._file.metadata) and types == columns.types:
                texts = self._file.read("image_sha256", "caption").columns
                rows = zip(*(column.to_pylist() for column in texts), strict=True)
                self._rows = {row: n for n, row in enumerate(rows)}

    def find(self, picture: Picture) -> dict[str, Any] | None:
        """The columns of the row of the same file and caption, or None."""
        with suppress(Exception):  # what a damaged group holds is computed again
            if (number := self._rows.get((picture.image_sha256, picture.caption))) is not None:
                row = self._file.row(number, self._names)
                vectors = itertools.chain(*(of for of in row.values() if isinstance(of, list)))
                if all(map(math.isfinite, vectors)) and None not in row.values():
                    return row
        return None
