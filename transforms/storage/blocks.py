"""Arrow record batches: their coder for Beam, and how blocks of them cross from one step to the
next.

Beam's default coder pickles a batch with all the memory its slice points into; Arrow IPC writes
only the slice. A block crosses a shuffle either inline, which is right where the runner spills its
shuffle (Flink, Dataflow), or by reference to a temporary file: the in-process runner holds every
shuffled byte in memory four to five times.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from alignset.transforms.storage.files import PieceFile

MAX_ROWS = 1 << 32  # of a split: its rows are told by uint32
REFERENCE = pa.schema([("path", pa.string()), ("at", pa.int64()), ("size", pa.int64())])


class BatchCoder(beam.coders.Coder):
    """A record batch as an Arrow IPC stream; references as JSON, since there are thousands."""

    def encode(self, value: pa.RecordBatch) -> bytes:
        if value.schema.equals(REFERENCE):
            return json.dumps([column.to_pylist() for column in value.columns]).encode()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, value.schema) as writer:
            writer.write_batch(value)
        return sink.getvalue().to_pybytes()

    def decode(self, encoded: bytes) -> pa.RecordBatch:
        if encoded[:1] == b"[":  # no IPC stream begins so
            return pa.record_batch(json.loads(encoded), schema=REFERENCE)
        with pa.ipc.open_stream(encoded) as reader:
            return reader.read_next_batch()

    def is_deterministic(self) -> bool:
        return True

    def to_type_hint(self) -> type:
        return pa.RecordBatch


beam.coders.registry.register_coder(pa.RecordBatch, BatchCoder)


def batch_of(columns: Mapping[str, npt.NDArray[np.generic] | pa.Array]) -> pa.RecordBatch:
    """A record batch over numpy or Arrow columns, not copied."""
    return pa.record_batch([pa.array(c) for c in columns.values()], names=list(columns))


def numbered(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Each batch with the number of its first row.

    Raises:
      RuntimeError: there are more rows than row numbers.
    """
    first = 0
    for batch in batches:
        if first + len(batch) > MAX_ROWS:
            raise RuntimeError(f"a file has more than {MAX_ROWS:,} rows; split it and start again")
        yield first, batch
        first += len(batch)


def group_by_bucket(
    rows: pa.RecordBatch, hashes: npt.NDArray[np.uint64], buckets: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The rows of each bucket that has any, by their hashes: (bucket, rows).

    Args:
      buckets: how many; a power of two, at most 65,536.
    """
    # Up to 16 bits are sorted digit by digit; 8 bits in half the time of 16.
    kind, bits = (np.uint8, 8) if buckets <= 256 else (np.uint16, 16)
    spare = np.uint64(bits + 1 - buckets.bit_length())
    top = (hashes >> np.uint64(64 - bits) >> spare).astype(kind)
    order = np.argsort(top, kind="stable")
    edges = np.searchsorted(top[order], np.arange(buckets + 1))
    rows = rows.take(pa.array(order))
    for bucket in np.flatnonzero(edges[1:] > edges[:-1]).tolist():
        start, stop = edges[bucket : bucket + 2].tolist()
        yield bucket, rows.slice(start, stop - start)


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

    def pack_each(self, parts: Iterable[tuple[int, pa.RecordBatch]]) -> Iterator[Bucket]:
        """Elements in place of numbered batches, with their numbers."""
        items = list(parts)
        blocks = self.pack([batch for _, batch in items])
        yield from ((number, block) for (number, _), block in zip(items, blocks, strict=True))


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
