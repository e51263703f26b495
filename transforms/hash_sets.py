"""Sets of hashes, from blocks by bucket to one sorted file that workers map."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from transforms.batches import unpack
from transforms.files import write_atomically


def _write(blocks: Iterable[tuple[int, pa.RecordBatch]], path: str) -> str:
    """Writes the buckets' hashes in the order of the buckets: they are the hashes' top bits."""

    def write(sink: object) -> None:
        for _, block in sorted(blocks, key=lambda item: item[0]):
            sink.write(memoryview(unpack(block)["hash"].to_numpy().astype("<u8")))  # type: ignore[attr-defined]

    named = f"{path}-{uuid.uuid4().hex}"  # each attempt its own, since readers keep sets open
    write_atomically(named, write)
    return named


@dataclass(eq=False)
class WriteHashSet(beam.PTransform):
    """(bucket, hashes ascending) to one file of little-endian uint64; gives its path, once.

    Args:
      path: what the file's name begins with.
    """

    path: str

    def expand(self, members: beam.PCollection) -> beam.PCollection:
        write = beam.Map(lambda _, blocks: _write(blocks, self.path), beam.pvalue.AsList(members))
        return members.pipeline | f"Once {self.label}" >> beam.Create([None]) | write
