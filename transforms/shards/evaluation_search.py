"""The nearest evaluation image of each image of a shard, searched for as images arrive."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa

from alignset.transforms.decontamination.evaluation_index import EvaluationIndex
from alignset.transforms.decontamination.overlap_measure import Features, Look, Nearest
from alignset.transforms.images.examine import Image, Unusable
from alignset.transforms.images.image_size import size_reasons

# Searched for together, which costs half of what one at a time costs; their features are 6 MiB.
_SEARCHED_AT_ONCE = 256


class EvaluationSearch:
    """Finds the nearest evaluation image of images that come in any order, on any thread.

    An image that is too small or too long is not searched for.

    Args:
      index: None finds none.
      size: how many images the shard has.
      size_rule: as of `ImageRules`.
    """

    def __init__(self, index: EvaluationIndex | None, size: int, **size_rule: Any) -> None:
        self.nearest: list[Nearest | None] = [None] * size
        self.index, self._size_rule = index, size_rule
        self._lock = Lock()
        self._rows: list[int] = []
        self._features: list[Features] = []

    def add(
        self,
        rows: Sequence[int],
        bodies: Sequence[bytes],
        images: Sequence[Image | Unusable],
        *,
        in_full: bool = False,
    ) -> None:
        """Has images searched for, now or with others.

        Args:
          rows: of the images in the shard. bodies, images: their files, and what `examine` said.
          in_full: whether that was asked to decode JPEGs in full.
        """
        if self.index is None:
            return
        looks = {
            row: Look(body, image, in_full)
            for row, body, image in zip(rows, bodies, images, strict=True)
            if isinstance(image, Image)
        }
        width, height = (
            pa.array([getattr(look.image, side) for look in looks.values()], pa.int32())
            for side in ("width", "height")
        )
        fits = size_reasons(width, height, **self._size_rule).is_null().to_pylist()
        wanted = [row for row, fit in zip(looks, fits, strict=True) if fit]
        if wanted:
            self._put(wanted, self.index.measure.features([looks[row] for row in wanted]))

    def _put(self, rows: list[int], features: Features) -> None:
        with self._lock:
            self._rows.extend(rows)
            self._features.append(features)
            if len(self._rows) < _SEARCHED_AT_ONCE:
                return
            taken, waiting = self._take()
        self._search(taken, waiting)

    def finish(self) -> None:
        """Searches for those that wait; then `nearest` is whole."""
        with self._lock:
            taken, waiting = self._take()
        self._search(taken, waiting)

    def _take(self) -> tuple[list[int], list[Features]]:
        taken = self._rows, self._features
        self._rows, self._features = [], []
        return taken

    def _search(self, rows: list[int], features: list[Features]) -> None:
        if self.index is not None and rows:
            found = self.index.nearest(np.concatenate(features))
            for row, nearest in zip(rows, found, strict=True):
                self.nearest[row] = nearest

    @property
    def distances(self) -> pa.DoubleArray:
        """float64[n], to the nearest evaluation image; null where there is none."""
        found = [None if nearest is None else nearest.distance for nearest in self.nearest]
        return pa.array(found, pa.float64())
