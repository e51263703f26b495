"""Sets of hashes from blocks by bucket to sorted files."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import apache_beam as beam
import pyarrow as pa

from alignset.transforms.corpus.corpus_documents import HashFile
from alignset.transforms.storage.blocks import Bucket, unpack
from alignset.transforms.storage.files import open_to_read, write_atomically


def join_buckets(parts: Iterable[tuple[int, pa.RecordBatch | str]], path: str) -> HashFile:
    """Writes the hashes of buckets, which are their top bits, in order: one bucket at a time.

    Args:
      parts: each bucket's block with a column `hash`, or the path of a file of its hashes.
      path: what the file's name begins with.
    """
    name = f"{path}-{uuid.uuid4().hex}"  # each attempt its own, since readers keep it open
    size, digest = 0, hashlib.sha256()

    def write(sink: BinaryIO) -> None:
        nonlocal size
        for _, part in sorted(parts, key=lambda item: item[0]):
            hashes = bucket_bytes(part)
            size += sink.write(hashes)
            digest.update(hashes)

    write_atomically(name, write)
    return HashFile(name, size, digest.hexdigest())


def bucket_bytes(part: pa.RecordBatch | str) -> memoryview | bytes:
    """One bucket's hashes as they stand in a file: little-endian uint64."""
    if isinstance(part, str):
        with open_to_read(part) as source:
            return source.read()
    return memoryview(unpack(part)["hash"].to_numpy().astype("<u8", copy=False))


def _write_part(members: Bucket, path: str) -> tuple[int, str]:
    """One bucket to a file of its own, named for this attempt."""
    bucket, block = members
    part = f"{path}-{bucket:05d}-{uuid.uuid4().hex}"
    write_atomically(part, lambda sink: sink.write(bucket_bytes(block)))
    return bucket, part


@dataclass(eq=False)
class WriteHashSets(beam.PTransform):
    """Several sets, each (bucket, hashes ascending), to a file each of little-endian uint64.

    No process holds more than a bucket of a large dataset: where blocks come inline, each of its
    buckets first becomes a file.

    Args:
      folder: where to. sets: by name, which their files' names begin with.
      large: names of the datasets whose blocks come inline and are too large for one process.

    Output: one dict of a `HashFile` by name.
    """

    folder: str
    sets: Mapping[str, beam.PCollection]
    large: Container[str] = ()

    def expand(self, begin: Any) -> beam.PCollection:
        folder = self.folder

        def write(_: None, **sets: Iterable[tuple[int, Any]]) -> dict[str, HashFile]:
            return {name: join_buckets(parts, f"{folder}/{name}") for name, parts in sets.items()}

        sides = {}
        for name, members in self.sets.items():
            if name in self.large:
                part = beam.Map(_write_part, f"{folder}/{name}-part")
                members = members | f"Parts of {name}" >> part
            sides[name] = beam.pvalue.AsList(members)
        return begin.pipeline | beam.Create([None]) | beam.Map(write, **sides)
