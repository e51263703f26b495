"""Evaluation images: their perceptual hashes, and the pairs that come too close to one."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import BinaryIO, NamedTuple

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from transforms.columns import reasons as r
from transforms.columns.hashing import UInt64s
from transforms.images.examine import Image, examine
from transforms.images.file_formats import IMAGE_SUFFIXES
from transforms.storage.files import local_copy, open_to_read, write_atomically
from transforms.storage.tar_members import BrokenTar, tar_members
from transforms.workers.threads import in_threads

LOG = logging.getLogger("alignset")
MAX_BYTES = 1 << 26  # of an image; a larger one is counted as unreadable
FAR = 64  # bits: no two hashes are farther apart


@dataclass(frozen=True)
class EvaluationFile:
    """A file of evaluation images: an image, a tar of them, or Parquet with a column of them."""

    name: str  # of the evaluation set
    path: str
    bytes: int = 0


class HashedFile(NamedTuple):
    """What one file of evaluation images holds."""

    name: str  # of the evaluation set
    phashes: list[int]
    unreadable: int


@dataclass(frozen=True)
class EvaluationSet:
    """How many images a set has, and how many more cannot be decoded."""

    images: int = 0
    unreadable: int = 0


def image_bodies(path: str) -> Iterator[bytes]:
    """The bytes of each image in one file; none where they are too many, or not there."""
    suffix = path.lower()
    with open_to_read(path) as source:
        if suffix.endswith(".tar"):
            for member in tar_members(source):
                if member.name.lower().endswith(IMAGE_SUFFIXES):
                    source.seek(member.at)
                    fits = member.plain and member.size <= MAX_BYTES
                    yield source.read(member.size) if fits else b""
        elif suffix.endswith(".parquet"):
            yield from _parquet_bodies(source, path)
        else:
            body = source.read(MAX_BYTES + 1)
            yield body if len(body) <= MAX_BYTES else b""


def _parquet_bodies(source: BinaryIO, path: str) -> Iterator[bytes]:
    """Images as `datasets` stores them, a struct with `bytes`, or a plain column of bytes."""
    file = pq.ParquetFile(
        source, pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True
    )
    name = _image_column(file.schema_arrow, path)
    # One row at once: of a dictionary, 64 may be 64 times the largest value. An image takes longer.
    for batch in file.iter_batches(batch_size=1, columns=[name]):
        images = batch.column(0)
        if pa.types.is_struct(images.type):
            images = pc.struct_field(images, "bytes")
        if isinstance(images, pa.DictionaryArray):
            images = images.dictionary_decode()
        for body in images:
            fits = body.is_valid and body.as_buffer().size <= MAX_BYTES
            yield body.as_py() if fits else b""


def _image_column(schema: pa.Schema, path: str) -> str:
    for name in ("image", "jpg", "png", "webp", "bytes"):
        if schema.names.count(name) == 1 and _holds_bytes(schema.field(name).type):
            return name
    raise ValueError(
        f"evaluation images: {path} has no column image, jpg, png, webp or bytes of bytes; "
        f"it has {', '.join(schema.names)}"
    )


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        at = kind.get_field_index("bytes")
        return at >= 0 and _holds_bytes(kind.field(at).type)
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return kind in (pa.binary(), pa.large_binary())


def hash_evaluation_file(file: EvaluationFile) -> HashedFile:
    """The perceptual hashes of the images in one file."""
    phashes, unreadable = [], 0
    try:
        for look in in_threads(partial(examine, in_full=True), image_bodies(file.path)):
            if isinstance(look, Image):
                phashes.append(look.phash)
            else:
                unreadable += 1
    except (OSError, EOFError, BrokenTar, pa.ArrowException) as error:
        reason = str(error).partition("\n")[0]
        raise RuntimeError(
            f"evaluation images: cannot read {file.path} to its end: {reason}; replace the file"
        ) from error
    if unreadable:
        message = "%s: %d evaluation images cannot be decoded, so copies of them are not found"
        LOG.warning(message, file.path, unreadable)
    return HashedFile(file.name, phashes, unreadable)


@dataclass(eq=False)
class HashEvaluationImages(beam.PTransform):
    """Files of evaluation images to one file of their perceptual hashes, which workers map.

    Args:
      folder: where that file is written.

    Outputs, singletons: `path` of the file, and `sets`, a dict of `EvaluationSet` by name.
    """

    folder: str

    def expand(self, files: beam.PCollection) -> dict[str, beam.PCollection]:
        hashed = files | beam.Reshuffle() | beam.Map(hash_evaluation_file)
        start = files.pipeline | "Once" >> beam.Create([None])
        view, folder = beam.pvalue.AsIter(hashed), self.folder
        write = beam.Map(lambda _, hashed: write_evaluation_hashes(hashed, folder), view)
        return {
            "path": start | "WriteHashes" >> write,
            "sets": start | "BySet" >> beam.Map(lambda _, hashed: by_set(hashed), view),
        }


def write_evaluation_hashes(hashed: Iterable[HashedFile], folder: str) -> str:
    """Writes the distinct perceptual hashes, ascending, as little-endian uint64; returns the path,
    or "" where there are none."""
    phashes = np.unique(np.array([phash for file in hashed for phash in file.phashes], "<u8"))
    if not len(phashes):
        return ""
    # Each attempt its own, since workers keep it open.
    path = f"{folder}/evaluation-{uuid.uuid4().hex}.u64"
    write_atomically(path, lambda sink: sink.write(phashes.tobytes()))
    return path


@lru_cache(maxsize=2)
def open_evaluation_hashes(path: str) -> UInt64s:
    """The hashes of such a file, mapped: uint64[m]; none where there is no file."""
    if not path:
        return np.zeros(0, np.uint64)
    return np.memmap(local_copy(path), "<u8", "r").view(np.ndarray)


def by_set(hashed: Iterable[HashedFile]) -> dict[str, EvaluationSet]:
    """How many images each evaluation set has, by its name."""
    sets: dict[str, EvaluationSet] = {}
    for file in hashed:
        earlier = sets.get(file.name, EvaluationSet())
        sets[file.name] = EvaluationSet(
            earlier.images + len(file.phashes), earlier.unreadable + file.unreadable
        )
    return dict(sorted(sets.items()))


def evaluation_distances(phashes: UInt64s, evaluation: UInt64s) -> npt.NDArray[np.int32]:
    """How far each image is from the nearest evaluation image.

    Args:
      phashes: uint64[n], perceptual hashes. evaluation: uint64[m].

    Returns:
      int32[n], Hamming distance in bits, 0 to 64; 64 where there are no evaluation images.
    """
    distances = np.full(len(phashes), FAR, np.int32)
    for row, phash in enumerate(phashes):  # m hashes a kernel: no n x m matrix is ever made
        if len(evaluation):
            distances[row] = np.bitwise_count(evaluation ^ phash).min()
    return distances


def evaluation_reasons(distances: pa.Array, *, min_distance: int) -> pa.StringArray:
    """Why each image may not be trained on, or null.

    Args:
      distances: int32[n], bits to the nearest evaluation image; null where unknown.
      min_distance: bits; an image nearer than this goes.

    Source: ALIGN (Jia et al., 2021), section 3 removes near-duplicates of test images; there by
      embeddings, here by perceptual hashes.
    """
    near = pc.less(distances, min_distance)
    return pc.if_else(pc.fill_null(near, False), r.EVALUATION_OVERLAP, pa.scalar(None, pa.string()))
