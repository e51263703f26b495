"""How images look, by which near-duplicates are found when all shards have come: what is put aside
of each when it comes, the columns of sidecars, and files of descriptors."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from alignset.transforms.arrivals.images import Images
from alignset.transforms.columns.hashing import UInt64s
from alignset.transforms.columns.records import LOOK_SCHEMA, key_column, keys_of
from alignset.transforms.decontamination.copy_check import share_of_one_tone
from alignset.transforms.decontamination.copy_thumbnails import (
    SIDE_PX,
    WIDTH,
    Thumbnail,
    Vectors,
    chroma_grid,
    descriptors,
    make_thumbnails,
)
from alignset.transforms.images.decode import rgb_pixels
from alignset.transforms.images.examine import Image, examine
from alignset.transforms.images.perceptual_hash import thumbnail_hash
from alignset.transforms.storage.files import exists
from alignset.transforms.storage.parquet_files import read_rows, schema_of
from alignset.transforms.storage.tar_members import stored_images
from alignset.transforms.workers.threads import map_in_threads

CHROMA = 32  # numbers of a grid
# What is put aside of an image when it comes. `chroma` is only known where looks are wanted.
THUMBNAILS = np.dtype(
    [("grey", "u1", (SIDE_PX, SIDE_PX)), ("chroma", "i1", CHROMA), ("border", "?")]
)
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
_AT_ONCE = 64  # images that are described together; the network has batches of 16


def find_thumbnail(image: Image) -> Thumbnail:
    """uint8[64, 64], an image without its borders, which was looked at with `keep_grey`."""
    assert image.grey is not None
    return make_thumbnails(image.grey).trimmed


def make_thumbnail_row(image: Image, *, in_colour: bool) -> npt.NDArray[Any]:
    """THUMBNAILS[1] of an image that was looked at with `keep_grey`, and in colour with
    `keep_picture` too."""
    assert image.grey is not None
    thumbnails, row = make_thumbnails(image.grey), np.zeros(1, THUMBNAILS)
    row["grey"], row["border"] = thumbnails.trimmed, thumbnails.is_trimmed
    if in_colour:
        assert image.picture is not None
        row["chroma"] = chroma_grid(rgb_pixels(image.picture), thumbnails).ravel()
    return row


def read_thumbnails(images: Images, rows: Sequence[int]) -> npt.NDArray[Any]:
    """THUMBNAILS[n] of some images, which were put aside."""
    return np.frombuffer(
        b"".join(images.spool.get(images["thumbnails"][row]) for row in rows), THUMBNAILS
    )


def looks_of(thumbnails: npt.NDArray[Any]) -> Looks:
    """LOOK[n] of THUMBNAILS[n], which are in colour."""
    looks = np.zeros(len(thumbnails), LOOK)
    looks["descriptor"] = descriptors(thumbnails["grey"])
    looks["trimmed_phash"] = np.array(
        [thumbnail_hash(grey) for grey in thumbnails["grey"]], np.uint64
    )
    looks["chroma"], looks["has_border"] = thumbnails["chroma"], thumbnails["border"]
    looks["one_tone"] = [share_of_one_tone(grey) for grey in thumbnails["grey"]]
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


def batches(rows: Sequence[int]) -> Iterable[list[int]]:
    """Rows in parts that are described together."""
    return ([*rows[at : at + _AT_ONCE]] for at in range(0, len(rows), _AT_ONCE))


def descriptors_path(folder: str, shard: int) -> str:
    """Where a shard's descriptors are, in a folder of them."""
    return f"{folder}/{shard}.parquet"


def write_descriptors(kept: pa.Table, images: Images, path: Path) -> None:
    """Writes the descriptors of a shard's kept pairs, each image once."""
    rows, first = np.unique(kept["image"].to_numpy(), return_index=True)
    parts = map_in_threads(
        lambda part: descriptors(read_thumbnails(images, part)["grey"]), batches(rows.tolist())
    )
    flat = np.concatenate([np.zeros(0, np.int8), *(part.ravel() for part in parts)])
    column = pa.FixedSizeListArray.from_arrays(pa.array(flat), WIDTH)
    keys = kept["key"].to_numpy()[first]
    pq.write_table(pa.table({"key": pa.array(keys), "vector": column}), path)


def read_descriptors(path: str, sidecar: str, tar: str) -> tuple[UInt64s, Vectors]:
    """The descriptors of the n images of a shard, each once: the key of a pair, and int8[n, 64];
    computed from its images where nobody has written them.

    Args:
      path: of their file. sidecar, tar: of the shard.
    """
    if not (is_there := exists(path)) and not has_looks(sidecar):
        keys, thumbnails = thumbnails_in(tar, in_colour=False)
        return keys, descriptors(thumbnails["grey"])
    source = (path, ["key", "vector"]) if is_there else (sidecar, ["key", "descriptor"])
    key, vector = (column.combine_chunks() for column in read_rows(*source).columns)
    vectors = vector.flatten().to_numpy().reshape(-1, WIDTH)
    return key.to_numpy() if is_there else keys_of(key), vectors


def has_looks(sidecar: str) -> bool:
    """Whether a shard's sidecar says how its images look."""
    return set(LOOK_SCHEMA.names) <= set(schema_of(sidecar).names)


def thumbnails_in(
    tar: str, wanted_keys: Container[int] | None = None, *, in_colour: bool = True
) -> tuple[UInt64s, npt.NDArray[Any]]:
    """Keys and THUMBNAILS[n] of the images of a tar that can be decoded; by default of all."""
    thumbnails_by_key = {}
    for key, body in stored_images(tar, wanted_keys):
        image = examine(body, keep_grey=True, keep_picture=in_colour)
        if isinstance(image, Image):
            thumbnails_by_key[int(key, 16)] = make_thumbnail_row(image, in_colour=in_colour)
    thumbnails = np.concatenate([np.zeros(0, THUMBNAILS), *thumbnails_by_key.values()])
    return np.array([*thumbnails_by_key], np.uint64), thumbnails
