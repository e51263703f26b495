"""Parquet files written as their rows come, whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from transforms.files import publish

ROWS_PER_GROUP = 1 << 16


class RowWriter:
    """Gathers rows to row groups of one size, so that the bytes do not depend on the batches."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self._writer = writer
        self._held: list[pa.RecordBatch] = []
        self._rows = 0

    def write(self, batch: pa.RecordBatch) -> None:
        """Adds rows."""
        self._held.append(batch)
        self._rows += len(batch)
        if self._rows >= ROWS_PER_GROUP:
            table = pa.Table.from_batches(self._held)
            whole = self._rows - self._rows % ROWS_PER_GROUP
            self._writer.write_table(table.slice(0, whole), row_group_size=ROWS_PER_GROUP)
            self._held, self._rows = table.slice(whole).to_batches(), self._rows - whole

    def finish(self) -> None:
        """Writes what is left."""
        if self._rows:
            self._writer.write_table(pa.Table.from_batches(self._held))


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    # Keys, URLs and texts hardly repeat: to look for it costs a fifth of the writing.
    repeating = [name for name in schema.names if name in ("step", "reason", "detail")]
    return pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=repeating or False)


@contextmanager
def parquet_file(path: str, schema: pa.Schema, scratch: str | None) -> Iterator[RowWriter]:
    """A Parquet file under way; it is published where the block ends without an error.

    A file without rows is published too: it replaces that of an attempt which was killed.

    Args:
      scratch: a folder on this machine, on the disk of a local `path`; None for the system's own.
    """
    if scratch:
        Path(scratch).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rows-", dir=scratch) as folder:
        aside = Path(folder) / "rows.parquet"
        with _writer(aside, schema) as writer:
            rows = RowWriter(writer)
            yield rows
            rows.finish()
        publish(aside, path)
