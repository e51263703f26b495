"""How the images of a shard look, by which near-duplicates are found when all shards have come."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from alignset.transforms.arrivals.image_looks import PLANES, planes_of, stored_planes
from alignset.transforms.arrivals.images import Images
from alignset.transforms.columns.hashing import UInt64s
from alignset.transforms.columns.rejects import keys_of
from alignset.transforms.decontamination.copy_vectors import WIDTH, Vectors, descriptors
from alignset.transforms.images.examine import Image, examine
from alignset.transforms.shards.listed_pairs import stored_images
from alignset.transforms.shards.shard_files import LOOK_SCHEMA
from alignset.transforms.shards.shard_samples import batches
from alignset.transforms.storage.files import exists
from alignset.transforms.storage.parquet_files import read_rows, schema_of
from alignset.transforms.workers.threads import in_threads


class Descriptors(NamedTuple):
    """Descriptors of n images of a shard, each once: the key of a pair, and int8[n, 64]."""

    keys: UInt64s
    vectors: Vectors


def descriptors_path(folder: str, shard: int) -> str:
    """Where a shard's descriptors are, in a folder of them."""
    return f"{folder}/{shard}.parquet"


def write_descriptors(kept: pa.Table, images: Images, path: Path) -> None:
    """Writes the descriptors of a shard's kept pairs, each image once."""
    rows, first = np.unique(kept["image"].to_numpy(), return_index=True)
    parts = in_threads(
        lambda part: descriptors(stored_planes(images, part)["plane"]), batches(rows.tolist())
    )
    flat = np.concatenate([np.zeros(0, np.int8), *(part.ravel() for part in parts)])
    column = pa.FixedSizeListArray.from_arrays(pa.array(flat), WIDTH)
    keys = kept["key"].to_numpy()[first]
    pq.write_table(pa.table({"key": pa.array(keys), "vector": column}), path)


def read_descriptors(path: str, sidecar: str, tar: str) -> Descriptors:
    """Those of a shard; computed from its images where nobody has written them.

    Args:
      path: of their file. sidecar, tar: of the shard.
    """
    if exists(path):
        rows = read_rows(path).combine_chunks()
        flat = rows["vector"].combine_chunks().flatten().to_numpy()
        return Descriptors(rows["key"].to_numpy(), flat.reshape(-1, WIDTH))
    if has_looks(sidecar):
        rows = read_rows(sidecar, ["key", "descriptor"]).combine_chunks()
        flat = rows["descriptor"].combine_chunks().flatten().to_numpy()
        return Descriptors(keys_of(rows["key"]), flat.reshape(-1, WIDTH))
    keys, planes = planes_in(tar, in_colour=False)
    return Descriptors(keys, descriptors(planes["plane"]))


def has_looks(sidecar: str) -> bool:
    """Whether a shard's sidecar says how its images look."""
    return set(LOOK_SCHEMA.names) <= set(schema_of(sidecar).names)


def planes_in(
    tar: str, wanted_keys: Container[int] | None = None, *, in_colour: bool = True
) -> tuple[UInt64s, npt.NDArray[Any]]:
    """Keys and PLANES[n] of images of a tar that can be decoded; of all where none are wanted."""
    planes_by_key = {}
    for key, body in stored_images(tar, wanted_keys):
        image = examine(body, keep_grey=True, keep_picture=in_colour)
        if isinstance(image, Image):
            planes_by_key[int(key, 16)] = planes_of(image, in_colour=in_colour)
    planes = np.concatenate([np.zeros(0, PLANES), *planes_by_key.values()])
    return np.array([*planes_by_key], np.uint64), planes
