"""How images look, by which near-duplicates are found when all shards have come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from alignset.transforms.arrivals.images import Images
from alignset.transforms.columns.rejects import key_column, keys_of
from alignset.transforms.decontamination.copy_check import share_of_one_tone
from alignset.transforms.decontamination.copy_thumbnails import (
    SIDE_PX,
    Thumbnail,
    chroma_grid,
    make_thumbnails,
)
from alignset.transforms.decontamination.copy_vectors import WIDTH, descriptors
from alignset.transforms.images.displayed_picture import rgb_pixels
from alignset.transforms.images.examine import Image
from alignset.transforms.images.perceptual_hash import thumbnail_hash

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


def stored_planes(images: Images, rows: Sequence[int]) -> npt.NDArray[Any]:
    """PLANES[n] of some images, which were put aside."""
    return np.frombuffer(b"".join(images.spool.get(images["planes"][row]) for row in rows), PLANES)


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
