"""Sets of hashes, from blocks by bucket to sorted files that workers map."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import apache_beam as beam
import numpy as np
import pyarrow as pa
from numba import njit

from transforms.columns.hashing import Bools, UInt64s
from transforms.columns.kernels import kernel
from transforms.storage.blocks import Bucket, unpack
from transforms.storage.files import open_to_read, write_atomically


@dataclass(frozen=True)
class HashFile:
    """A file of hashes: its path, its size in bytes, and their SHA-256 in hex."""

    path: str
    bytes: int
    sha256: str

    @property
    def members(self) -> int:
        """How many it holds."""
        return self.bytes // 8


def join_buckets(parts: Iterable[tuple[int, pa.RecordBatch | str]], path: str) -> HashFile:
    """Writes the hashes of buckets, which are their top bits, in order: one bucket at a time.

    Args:
      parts: each bucket's block with a column `hash`, or the path of a file of its hashes.
      path: what the file's name begins with.
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
    return HashFile(named, size, digest.hexdigest())


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

    No process holds more than a bucket of a large set: where blocks come inline, each of its
    buckets first becomes a file.

    Args:
      folder: where to. sets: by name, which their files' names begin with.
      large: names of the sets whose blocks come inline and are too large for one process.

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


@kernel
def _is_between(members, at, stop, wanted):  # type: ignore[no-untyped-def]
    """Whether a hash is among the members from `at` to `stop`, by bisection."""
    while stop - at > 1:
        middle = (at + stop) >> 1
        if members[middle] <= wanted:
            at = middle
        else:
            stop = middle
    return at < stop and members[at] == wanted


@njit(inline="always")
def is_member(table, wanted):  # type: ignore[no-untyped-def]
    """Whether a hash is in the set behind `HashSet.table`. For use inside kernels."""
    members, starts, shift = table
    slot = wanted >> shift
    at, stop = np.int64(starts[slot]), np.int64(starts[slot + np.uint64(1)])
    far = at + 8  # a slot has one member, but they can be chosen so that one has all
    while at < stop and members[at] < wanted:
        at += 1
        if at == far:
            return _is_between(members, at, stop, wanted)
    return at < stop and members[at] == wanted


@kernel
def _contains(table, hashes, contained):  # type: ignore[no-untyped-def]
    for row in range(len(hashes)):
        contained[row] = is_member(table, hashes[row])


@kernel
def _index(members, shift, starts):  # type: ignore[no-untyped-def]
    """Where the members of each slot start; False where they do not ascend. Nothing is copied:
    100 million members are 800 MB of a mapped file."""
    filled = 0
    for at in range(len(members)):
        if at > 0 and members[at] <= members[at - 1]:
            return False
        slot = np.int64(members[at] >> shift)
        while filled <= slot:
            starts[filled] = at
            filled += 1
    starts[filled:] = len(members)
    return True


class HashSet:
    """A set of 64-bit hashes over a sorted array, which may be a mapped file.

    Hashes are uniform, so their top bits lead to within a few members of the place: one look-up
    touches two cache lines where a binary search over 100 million members touches 27.

    Args:
      members: uint64[k], ascending, without repeats.

    Raises:
      ValueError: the members are not ascending, or too many.
    """

    def __init__(self, members: UInt64s) -> None:
        if len(members) >= 1 << 32:
            raise ValueError(f"a set of hashes may have 4 billion members; got {len(members):,}")
        bits = min(max(1, len(members).bit_length()), 26)  # a place a member, 256 MiB at most
        shift = np.uint64(64 - bits)
        starts = np.empty((1 << bits) + 1, np.uint32)
        if not _index(members, shift, starts):
            raise ValueError("a set of hashes must be ascending without repeats; write it sorted")
        self.members = members
        self.table = (members, starts, shift)  # for kernels

    @classmethod
    def open(cls, path: str | Path) -> HashSet:
        """Maps a file of little-endian uint64, ascending."""
        if Path(path).stat().st_size == 0:  # an empty file cannot be mapped
            return cls(np.zeros(0, np.uint64))
        return cls(np.memmap(path, "<u8", "r").view(np.ndarray))

    def __len__(self) -> int:
        return len(self.members)

    def contains(self, hashes: UInt64s) -> Bools:
        """Whether each of uint64[n] is a member: bool[n]."""
        contained = np.empty(len(hashes), np.bool_)
        _contains(self.table, hashes, contained)
        return contained
