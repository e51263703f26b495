"""The vocabulary as a file: sorted hashes that workers map and another run can filter with."""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from typing import NamedTuple

import apache_beam as beam
import numpy as np

from transforms.count_pairs import Bucket
from transforms.files import local_copy, open_to_read, write_atomically
from transforms.hash_sets import bucket_bytes, join_buckets

NAME = "vocabulary.u64"  # little-endian uint64, ascending, without repeats or a header
HASHING = (
    "a word: XXH64 (seed 0) of its UTF-8 bytes, filled up with NULs to a multiple of 8; "
    "a bigram: XXH64 of both words' hashes, 16 bytes little-endian"
)
_PIECE = 1 << 20  # bytes read at once


class VocabularyFile(NamedTuple):
    """A file of hashes: its path, its bytes, their SHA-256 in hex."""

    path: str
    size: int
    sha256: str

    @property
    def ngrams(self) -> int:
        """How many it holds."""
        return self.size // 8

    def described(self) -> dict[str, str | int]:
        """The file as documents tell of it."""
        return {"path": self.path, "bytes": self.size, "sha256": self.sha256}


def check_vocabulary(path: str) -> VocabularyFile:
    """Reads a file of hashes through, a piece at a time: 100 million are 800 MB.

    Raises:
      ValueError: it is empty, or not whole, or not ascending.
      OSError: it cannot be read.
    """
    digest, size = hashlib.sha256(), 0
    before = np.zeros(0, "<u8")
    with open_to_read(local_copy(path)) as source:
        while piece := source.read(_PIECE):
            digest.update(piece)
            size += len(piece)
            if len(piece) % 8:
                continue  # the last one: a file gives whole pieces
            hashes = np.concatenate([before, np.frombuffer(piece, "<u8")])
            if not np.all(hashes[1:] > hashes[:-1]):
                raise ValueError("its hashes are not ascending without repeats")
            before = hashes[-1:]
    if size % 8:
        raise ValueError(f"it has {size} bytes, no multiple of 8")
    if not size:
        raise ValueError("it is empty, and every text that has a word would be dropped")
    return VocabularyFile(path, size, digest.hexdigest())


def _write_part(members: Bucket, path: str) -> tuple[int, str]:
    """One bucket to a file of its own, named for this attempt."""
    bucket, block = members
    part = f"{path}-{bucket:05d}-{uuid.uuid4().hex}"
    write_atomically(part, lambda sink: sink.write(bucket_bytes(block)))
    return bucket, part


@dataclass(eq=False)
class WriteVocabulary(beam.PTransform):
    """(bucket, hashes ascending) to one file of little-endian uint64; gives its `VocabularyFile`.

    No process holds more than a bucket: where blocks come inline, each first becomes a file.

    Args:
      path: what the file's name begins with.
      inline: whether the blocks come inline, and not by reference.
    """

    path: str
    inline: bool

    def expand(self, members: beam.PCollection) -> beam.PCollection:
        path = self.path
        parts = members
        if self.inline:
            parts = members | "Part" >> beam.Map(_write_part, f"{path}-part")
        once = members.pipeline | f"Once {self.label}" >> beam.Create([None])
        return once | "Join" >> beam.Map(
            lambda _, some: VocabularyFile(*join_buckets(some, path)), beam.pvalue.AsList(parts)
        )
