"""Overlap by copies: what people do to pictures, seen through by a descriptor and a check.

docs/overlap.md says how it works and what it finds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alignset.transforms.decontamination.copy_descriptor import DESCRIPTOR_SHA256
from alignset.transforms.decontamination.copy_index import QUICK_ERROR, CopyIndex, CopyMatch
from alignset.transforms.decontamination.copy_index_files import (
    DOCUMENT,
    ENTRIES,
    FINE,
    FORMAT,
    PLANES,
    ROWS,
    SEARCH,
    VECTORS,
    build_copy_index,
)
from alignset.transforms.decontamination.copy_planes import (
    PLANES_A_ROW,
    SIDE_PX,
    fine_planes,
    plane_row,
)
from alignset.transforms.decontamination.overlap_measure import Features, Look, Nearest
from alignset.transforms.decontamination.overlap_settings import COPY_DISTANCE


@dataclass(frozen=True)
class CopyMeasure:
    """How far a picture is from being a copy: 0 to 2, as `CopyMatch` has it."""

    name: str = "copy"
    min_distance: float = COPY_DISTANCE
    quick_error: float = QUICK_ERROR
    files: tuple[str, ...] = (DOCUMENT, PLANES, FINE, ROWS, ENTRIES, VECTORS, SEARCH)

    @property
    def settings(self) -> dict[str, str]:
        return {"descriptor": DESCRIPTOR_SHA256, "format": str(FORMAT)}

    @property
    def row_type(self) -> np.dtype[Any]:
        return np.dtype((np.uint8, (PLANES_A_ROW, SIDE_PX, SIDE_PX)))

    def features(self, looks: Sequence[Look]) -> Features:
        """uint8[n, 6, 64, 64], a `plane_row` of each picture, without fine planes of JPEGs that
        were decoded small."""
        rows = np.empty((len(looks), PLANES_A_ROW, SIDE_PX, SIDE_PX), np.uint8)
        for row, look in zip(rows, looks, strict=True):
            assert look.image.grey is not None, "the picture was looked at with keep_grey"
            row[:] = plane_row(look.image.grey, fine=look.in_full or look.image.format != "jpeg")
        return rows

    def build(self, features: Iterable[Features], count: int, folder: Path) -> None:
        build_copy_index(features, str(folder))

    def open(self, folder: Path) -> _Copies:
        return _Copies(CopyIndex.open(str(folder)))


class _Copies:
    def __init__(self, index: CopyIndex) -> None:
        self._index = index

    def nearest(self, features: Features) -> list[Nearest | None]:
        matches = self._index.nearest(features[:, 1], fine=fine_planes(features))
        return [_nearest(match) if match.row >= 0 else None for match in matches]


def _nearest(match: CopyMatch) -> Nearest:
    numbers: dict[str, float | str] = {"cosine": round(match.cosine, 3), "variant": match.variant}
    if match.distance < 1:
        numbers |= {name: round(float(n), 3) for name, n in match.check._asdict().items()}
    return Nearest(match.row, match.distance, numbers)
