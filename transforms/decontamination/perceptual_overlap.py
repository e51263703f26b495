"""Overlap by imagehash's perceptual hash: bits in which two images differ, 0 to 64."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alignset.transforms.columns.hashing import UInt64s
from alignset.transforms.decontamination.overlap_measure import Features, Nearest, Shown, joined
from alignset.transforms.decontamination.overlap_settings import MIN_DISTANCES

HASHES = "phashes.u64"


@dataclass(frozen=True)
class PerceptualMeasure:
    """How many bits of their perceptual hashes differ; each image is compared with all."""

    name: str = "phash"
    min_distance: float = MIN_DISTANCES["phash"]
    # bits: a JPEG's quick hash is rarely farther than this from that of its whole image
    quick_error: float = 6.0
    files: tuple[str, ...] = (HASHES,)

    @property
    def settings(self) -> dict[str, str]:
        return {"hash": "imagehash.phash, 8 x 8"}

    @property
    def row_type(self) -> np.dtype[Any]:
        return np.dtype("<u8")

    def features(self, looks: Sequence[Shown]) -> Features:
        return np.array([look.image.phash for look in looks], "<u8")

    def build(self, features: Iterable[Features], count: int, folder: Path) -> None:
        (folder / HASHES).write_bytes(joined(features, self.row_type).tobytes())

    def open(self, folder: Path) -> PerceptualIndex:
        return PerceptualIndex(np.memmap(folder / HASHES, "<u8", "r").view(np.ndarray))


class PerceptualIndex:
    """The hashes of evaluation images.

    Args:
      hashes: uint64[m], one or more.
    """

    def __init__(self, hashes: UInt64s) -> None:
        self._hashes = hashes

    def nearest(self, features: UInt64s) -> list[Nearest]:
        """The first of equally near images.

        Args:
          features: uint64[n], perceptual hashes.
        """
        found = []
        for phash in features:  # m hashes a kernel: no n x m matrix is ever made
            bits = np.bitwise_count(self._hashes ^ phash)
            row = int(bits.argmin())
            found.append(Nearest(row, float(bits[row]), {}))
        return found
