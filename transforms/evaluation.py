"""Evaluation images: their perceptual hashes, and the pairs that come too close to one."""

from __future__ import annotations

import logging
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from transforms import reasons as r
from transforms.files import open_to_read
from transforms.hashing import UInt64s
from transforms.images import Image, examine
from transforms.threads import in_threads

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif")
LOG = logging.getLogger("alignset")
FAR = 64  # bits: no two hashes are farther apart


class EvaluationFile(NamedTuple):
    """A file of evaluation images: an image, a tar of them, or Parquet with a column of them."""

    name: str  # of the evaluation set
    path: str
    bytes: int = 0


class Hashed(NamedTuple):
    """What one file of evaluation images holds."""

    name: str
    phashes: list[int]
    unreadable: int


def _bodies(path: str) -> Iterator[bytes]:
    """The bytes of each image in one file."""
    suffix = path.lower()
    if suffix.endswith(".tar"):
        with open_to_read(path) as source, tarfile.open(fileobj=source, mode="r|") as tar:
            for member in tar:
                if member.name.lower().endswith(IMAGE_SUFFIXES):
                    body = tar.extractfile(member)
                    yield body.read() if body else b""
    elif suffix.endswith(".parquet"):
        with open_to_read(path) as source:
            for batch in pq.ParquetFile(source).iter_batches(batch_size=64):
                yield from _image_column(batch, path)
    else:
        with open_to_read(path) as source:
            yield source.read()


def _image_column(batch: pa.RecordBatch, path: str) -> Iterator[bytes]:
    """Images as `datasets` stores them, a struct with `bytes`, or a plain column of bytes."""
    for name in ("image", "jpg", "png", "webp", "bytes"):
        if name in batch.schema.names:
            images = batch[name]
            if pa.types.is_struct(images.type):
                images = pc.struct_field(images, "bytes")
            for body in images.to_pylist():
                yield body or b""
            return
    raise ValueError(
        f"evaluation images: {path} has no column image, jpg, png, webp or bytes; "
        f"it has {', '.join(batch.schema.names)}"
    )


def hash_evaluation_file(file: EvaluationFile) -> Hashed:
    """The perceptual hashes of the images in one file."""
    phashes, unreadable = [], 0
    for seen in in_threads(partial(examine, in_full=True), _bodies(file.path)):
        if isinstance(seen, Image):
            phashes.append(seen.phash)
        else:
            unreadable += 1
    if unreadable:
        message = "%s: %d evaluation images cannot be decoded, so copies of them are not found"
        LOG.warning(message, file.path, unreadable)
    return Hashed(file.name, phashes, unreadable)


@dataclass(eq=False)
class HashEvaluationImages(beam.PTransform):
    """Files of evaluation images to the perceptual hashes in each."""

    def expand(self, files: beam.PCollection) -> beam.PCollection:
        return files | beam.Reshuffle() | beam.Map(hash_evaluation_file)


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
