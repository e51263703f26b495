"""The descriptors of a shard's images, by which near-duplicates are found when all have come."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from alignset.transforms.columns.hashing import UInt64s
from alignset.transforms.decontamination.copy_index import descriptors
from alignset.transforms.decontamination.copy_planes import SIDE_PX, Plane, copy_planes
from alignset.transforms.decontamination.copy_vectors import WIDTH, Vectors
from alignset.transforms.images.examine import Image, examine
from alignset.transforms.shards.listed_pairs import stored_images
from alignset.transforms.shards.shard_pairs import ShardPairs
from alignset.transforms.storage.files import exists
from alignset.transforms.storage.parquet_files import read_rows
from alignset.transforms.workers.threads import in_threads

_AT_ONCE = 64  # images; the network has batches of 16


class Descriptors(NamedTuple):
    """Of n images of a shard, each once: the key of a pair, and int8[n, 64]."""

    keys: UInt64s
    vectors: Vectors


def descriptors_path(folder: str, shard: int) -> str:
    """Where a shard's descriptors are, in a folder of them."""
    return f"{folder}/{shard}.parquet"


def plane_of(image: Image) -> Plane:
    """uint8[64, 64], a picture without its borders, which was looked at with `keep_grey`."""
    assert image.grey is not None
    return copy_planes(image.grey).trimmed


def write_descriptors(pairs: ShardPairs, path: Path) -> None:
    """Writes those of the kept pairs of a shard, each image once."""
    images = pairs.images
    first = {pairs.kept_row(pair): pair for pair in reversed(pairs.kept.tolist())}
    rows = sorted(first)

    def vectors(some: list[int]) -> Vectors:
        bodies = b"".join(images.spool.get(images.planes[row]) for row in some)
        return descriptors(np.frombuffer(bytearray(bodies), np.uint8).reshape(-1, SIDE_PX, SIDE_PX))

    parts = in_threads(vectors, (rows[at : at + _AT_ONCE] for at in range(0, len(rows), _AT_ONCE)))
    flat = np.concatenate([np.zeros(0, np.int8), *(part.ravel() for part in parts)])
    column = pa.FixedSizeListArray.from_arrays(pa.array(flat), WIDTH)
    keys = pairs.keys[np.array([first[row] for row in rows], np.int64)]
    pq.write_table(pa.table({"key": pa.array(keys), "vector": column}), path)


def read_descriptors(path: str, tar: str) -> Descriptors:
    """Those of a shard; computed from its images where nobody has written them.

    Args:
      path: of their file. tar: of the shard.
    """
    if exists(path):
        rows = read_rows(path).combine_chunks()
        flat = rows["vector"].combine_chunks().flatten().to_numpy()
        return Descriptors(rows["key"].to_numpy(), flat.reshape(-1, WIDTH))
    planes = {}
    for key, body in stored_images(tar):
        image = examine(body, keep_grey=True)
        if isinstance(image, Image):
            planes[int(key, 16)] = plane_of(image)
    stacked = np.array([*planes.values()], np.uint8).reshape(-1, SIDE_PX, SIDE_PX)
    return Descriptors(np.array([*planes], np.uint64), descriptors(stacked))
