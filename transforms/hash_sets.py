"""Sets of hashes, from blocks by bucket to one sorted file that workers map."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO

import apache_beam as beam
import pyarrow as pa

from transforms.batches import unpack
from transforms.files import open_to_read, write_atomically


def join_buckets(
    parts: Iterable[tuple[int, pa.RecordBatch | str]], path: str
) -> tuple[str, int, str]:
    """Writes the hashes of buckets, which are their top bits, in order: one bucket at a time.

    Args:
      parts: each bucket's block with a column `hash`, or the path of a file of its hashes.
      path: what the file's name begins with.

    Returns:
      The file's path, its bytes and their SHA-256 in hex.
    """
    named = f"{path}-{uuid.uuid4().hex}"  # each attempt its own, since readers keep it open
    size, digest = 0, hashlib.sha256()

    def write(sink: BinaryIO) -> None:
        nonlocal size
        for _, part in sorted(parts, key=lambda item: item[0]):
            hashes = bucket_bytes(part)
            size += sink.write(hashes)
            digest.update(hashes)

    write_atomically(named, write)
    return named, size, digest.hexdigest()


def bucket_bytes(part: pa.RecordBatch | str) -> memoryview | bytes:
    """One bucket's hashes as they stand in a file: little-endian uint64."""
    if isinstance(part, str):
        with open_to_read(part) as source:
            return source.read()
    return memoryview(unpack(part)["hash"].to_numpy().astype("<u8", copy=False))


@dataclass(eq=False)
class WriteHashSet(beam.PTransform):
    """(bucket, hashes ascending) to one file of little-endian uint64; gives its path, once.

    Args:
      path: what the file's name begins with.
    """

    path: str

    def expand(self, members: beam.PCollection) -> beam.PCollection:
        write = beam.Map(
            lambda _, blocks: join_buckets(blocks, self.path)[0], beam.pvalue.AsList(members)
        )
        return members.pipeline | f"Once {self.label}" >> beam.Create([None]) | write
