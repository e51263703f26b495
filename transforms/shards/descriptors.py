"""How the images of a shard look, by which near-duplicates are found when all shards have come."""

from __future__ import annotations

from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from alignset.transforms.columns.hashing import UInt64s
from alignset.transforms.columns.rejects import key_column
from alignset.transforms.decontamination.copy_check import share_of_one_tone
from alignset.transforms.decontamination.copy_thumbnails import (
    SIDE_PX,
    Thumbnail,
    chroma_grid,
    make_thumbnails,
)
from alignset.transforms.decontamination.copy_vectors import WIDTH, Vectors, descriptors
from alignset.transforms.images.displayed_picture import rgb_pixels
from alignset.transforms.images.examine import Image, examine
from alignset.transforms.images.perceptual_hash import thumbnail_hash
from alignset.transforms.shards.listed_pairs import keys_of, stored_images
from alignset.transforms.shards.shard_files import LOOK_SCHEMA
from alignset.transforms.shards.shard_images import ShardImages
from alignset.transforms.shards.shard_pairs import ShardPairs
from alignset.transforms.storage.files import exists
from alignset.transforms.storage.parquet_files import read_rows, schema_of
from alignset.transforms.workers.threads import in_threads

_AT_ONCE = 64  # images; the network has batches of 16
CHROMA = 32  # numbers of a grid
# What is put aside of an image when it comes. `chroma` is only known where looks are wanted.
PLANES = np.dtype([("plane", "u1", (SIDE_PX, SIDE_PX)), ("chroma", "i1", CHROMA), ("border", "?")])
# How it looks without its borders: its descriptor, its perceptual hash, its colours in 16 parts,
# the share of one tone; and whether it has a border.
LOOK = np.dtype(
    [
        ("descriptor", "i1", WIDTH),
        ("trimmed_phash", "<u8"),
        ("chroma", "i1", CHROMA),
        ("one_tone", "<f4"),
        ("has_border", "?"),
    ]
)
Looks = npt.NDArray[Any]  # LOOK[n]


class Descriptors(NamedTuple):
    """Descriptors of n images of a shard, each once: the key of a pair, and int8[n, 64]."""

    keys: UInt64s
    vectors: Vectors


def descriptors_path(folder: str, shard: int) -> str:
    """Where a shard's descriptors are, in a folder of them."""
    return f"{folder}/{shard}.parquet"


def plane_of(image: Image) -> Thumbnail:
    """uint8[64, 64], an image without its borders, which was looked at with `keep_grey`."""
    assert image.grey is not None
    return make_thumbnails(image.grey).trimmed


def planes_of(image: Image, *, in_colour: bool) -> npt.NDArray[Any]:
    """PLANES[1] of an image that was looked at with `keep_grey`, and in colour with `keep_picture`
    too."""
    assert image.grey is not None
    planes, row = make_thumbnails(image.grey), np.zeros(1, PLANES)
    row["plane"], row["border"] = planes.trimmed, planes.is_trimmed
    if in_colour:
        assert image.picture is not None
        row["chroma"] = chroma_grid(rgb_pixels(image.picture), planes).ravel()
    return row


def looks_of(planes: npt.NDArray[Any]) -> Looks:
    """LOOK[n] of PLANES[n], which are in colour."""
    looks = np.zeros(len(planes), LOOK)
    looks["descriptor"] = descriptors(planes["plane"])
    looks["trimmed_phash"] = np.array(
        [thumbnail_hash(plane) for plane in planes["plane"]], np.uint64
    )
    looks["chroma"], looks["has_border"] = planes["chroma"], planes["border"]
    looks["one_tone"] = [share_of_one_tone(plane) for plane in planes["plane"]]
    return looks


def look_columns(looks: Looks) -> dict[str, pa.Array]:
    """LOOK[n] as the columns of LOOK_SCHEMA."""
    columns: dict[str, pa.Array] = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(looks[name].ravel()), looks[name].shape[1])
        for name in ("descriptor", "chroma")
    }
    columns |= {name: pa.array(looks[name].copy()) for name in ("one_tone", "has_border")}
    return columns | {"trimmed_phash": key_column(looks["trimmed_phash"].copy())}


def looks_in(rows: pa.Table) -> Looks:
    """LOOK[n] of rows of a sidecar that has them."""
    rows, looks = rows.combine_chunks(), np.zeros(len(rows), LOOK)
    for name in ("descriptor", "chroma"):
        column = rows[name].combine_chunks()
        looks[name] = column.flatten().to_numpy().reshape(len(rows), -1)
    looks["trimmed_phash"] = keys_of(rows["trimmed_phash"])
    for name in ("one_tone", "has_border"):
        looks[name] = rows[name].to_numpy()
    return looks


def look_measures(images: ShardImages) -> dict[str, pa.Array]:
    """The columns of LOOK_SCHEMA of a shard's images; null of those that are dropped."""
    rows = [row for row in sorted(images.planes) if images.reasons[row] is None]
    parts = in_threads(lambda some: looks_of(_stored(images, some)), _batches(rows))
    looks = np.concatenate([np.zeros(0, LOOK), *parts])
    at = np.full(len(images), len(rows))
    at[rows] = np.arange(len(rows))
    places = pa.array(at, mask=at == len(rows))
    return {name: column.take(places) for name, column in look_columns(looks).items()}


def _batches(rows: list[int]) -> Iterable[list[int]]:
    return (rows[at : at + _AT_ONCE] for at in range(0, len(rows), _AT_ONCE))


def _stored(images: ShardImages, rows: list[int]) -> npt.NDArray[Any]:
    return np.frombuffer(b"".join(images.spool.get(images.planes[row]) for row in rows), PLANES)


def write_descriptors(pairs: ShardPairs, path: Path) -> None:
    """Writes the descriptors of a shard's kept pairs, each image once."""
    images = pairs.images
    first = {pairs.kept_row(pair): pair for pair in reversed(pairs.kept_pairs.tolist())}
    rows = sorted(first)
    parts = in_threads(lambda some: descriptors(_stored(images, some)["plane"]), _batches(rows))
    flat = np.concatenate([np.zeros(0, np.int8), *(part.ravel() for part in parts)])
    column = pa.FixedSizeListArray.from_arrays(pa.array(flat), WIDTH)
    keys = pairs.keys[np.array([first[row] for row in rows], np.int64)]
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
    keys, planes = stored_planes(tar, in_colour=False)
    return Descriptors(keys, descriptors(planes["plane"]))


def has_looks(sidecar: str) -> bool:
    """Whether a shard's sidecar says how its images look."""
    return set(LOOK_SCHEMA.names) <= set(schema_of(sidecar).names)


def stored_planes(
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
