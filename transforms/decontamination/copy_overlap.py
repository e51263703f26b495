"""Overlap by copies: what people do to images, seen through by a descriptor and a check.

docs/overlap.md says how it works and what it finds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alignset.transforms.decontamination.copy_index import QUICK_ERROR, CopyIndex
from alignset.transforms.decontamination.copy_index_files import (
    ENTRIES,
    FORMAT,
    PLANES,
    ROWS,
    SEARCH,
    VECTORS,
    build_copy_index,
)
from alignset.transforms.decontamination.copy_planes import SIDE_PX, plane_row
from alignset.transforms.decontamination.copy_vectors import DESCRIPTOR_SHA256
from alignset.transforms.decontamination.overlap_measure import Features, Nearest, Shown
from alignset.transforms.decontamination.overlap_settings import COPY_DISTANCE
from alignset.transforms.images.examine import Image, Unusable, examine


def nearest_copy(index: CopyIndex, body: bytes, image: Image | None = None) -> Nearest | None:
    """The indexed image that a file is a copy of; a JPEG is decoded in full only where a small
    thumbnail of it says that it may be one.

    Args:
      image: what a quick `examine` with `keep_grey` said of the file.
    """
    for in_full in (False, True):
        look = image or examine(body, in_full=in_full, keep_grey=True)
        if isinstance(look, Unusable):
            return None
        final = in_full or look.format != "jpeg"
        (nearest,) = index.nearest(_MEASURE.features([Shown(body, look, in_full)]))
        most = _MEASURE.min_distance + (0 if final else _MEASURE.quick_error)
        if nearest is None or nearest.distance >= most:
            return None
        if final:
            return nearest
        image = None
    return None


@dataclass(frozen=True)
class CopyMeasure:
    """How far an image is from being a copy: 0 to 2, as `CopyIndex` has it."""

    name: str = "copy"
    min_distance: float = COPY_DISTANCE
    quick_error: float = QUICK_ERROR
    files: tuple[str, ...] = (PLANES, ROWS, ENTRIES, VECTORS, SEARCH)

    @property
    def settings(self) -> dict[str, str]:
        return {"descriptor": DESCRIPTOR_SHA256, "format": str(FORMAT)}

    @property
    def row_type(self) -> np.dtype[Any]:
        return np.dtype((np.uint8, (2, SIDE_PX, SIDE_PX)))

    def features(self, looks: Sequence[Shown]) -> Features:
        """uint8[n, 2, 64, 64], a `plane_row` of each image."""
        rows = np.empty((len(looks), 2, SIDE_PX, SIDE_PX), np.uint8)
        for row, look in zip(rows, looks, strict=True):
            assert look.image.grey is not None, "the image was looked at with keep_grey"
            row[:] = plane_row(look.image.grey)
        return rows

    def build(self, features: Iterable[Features], count: int, folder: Path) -> None:
        build_copy_index(features, str(folder))

    def open(self, folder: Path) -> CopyIndex:
        return CopyIndex(folder)


_MEASURE = CopyMeasure()
