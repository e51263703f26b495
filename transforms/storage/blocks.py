"""How blocks of rows cross from one Beam step to the next.

A block crosses a shuffle either inline, which is right where the runner spills its shuffle (Flink,
Dataflow), or by reference to a temporary file: the in-process runner holds every shuffled byte in
memory four to five times.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import apache_beam as beam
import pyarrow as pa

from alignset.transforms.columns.batches import REFERENCE
from alignset.transforms.storage.files import PieceFile


@dataclass(frozen=True)
class Blocks:
    """How blocks cross a shuffle: inline, or by reference where a folder is given.

    Args:
      folder: a local folder that all workers see; None sends blocks inline.
    """

    folder: str | None = None

    def pack(self, batches: Sequence[pa.RecordBatch]) -> list[pa.RecordBatch]:
        """Elements in place of each of these batches; by reference they share a file."""
        if self.folder is None or not batches:
            return list(batches)
        # A name of its own for each attempt, so that a retried bundle harms nothing.
        path = str(Path(self.folder) / f"{uuid.uuid4().hex}.arrow")
        places = [0]
        with PieceFile(path, "wb") as file, pa.PythonFile(file, "w") as sink:
            for batch in batches:
                with pa.ipc.new_stream(sink, batch.schema) as writer:
                    writer.write_batch(batch)
                places.append(sink.tell())
        return [
            pa.record_batch([[path], [start], [stop - start]], schema=REFERENCE)
            for start, stop in pairwise(places)
        ]


def unpack(block: pa.RecordBatch) -> pa.RecordBatch:
    """The batch that `Blocks.pack` was given; a file is mapped, not read."""
    if block.schema != REFERENCE:
        return block
    path, at, size = (column[0].as_py() for column in block.columns)
    with pa.memory_map(path) as source:
        source.seek(at)
        return pa.ipc.open_stream(source.read_buffer(size)).read_next_batch()


def unpack_each(block: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The batches behind references in one batch, one after another."""
    for row in range(len(block)):
        yield unpack(block.slice(row, 1))


def is_there(block: pa.RecordBatch) -> bool:
    """Whether the files are all there that references lead to."""
    return all(Path(path).exists() for path in set(block["path"].to_pylist()))


def remove(block: pa.RecordBatch) -> None:
    """Removes the files that references lead to. Mapped files stay until they are released."""
    for path in set(block["path"].to_pylist()):
        Path(path).unlink(missing_ok=True)


def unpacked(blocks: Iterable[pa.RecordBatch]) -> pa.Table:
    """One table of all the blocks of a bucket. An empty iterable gives an empty table."""
    batches = [unpack(block) for block in blocks]
    return pa.Table.from_batches(batches) if batches else pa.table({})


Bucket = tuple[int, pa.RecordBatch]


BUCKET = beam.typehints.Tuple[int, pa.RecordBatch]  # Beam's name for it, to find the IPC coder
