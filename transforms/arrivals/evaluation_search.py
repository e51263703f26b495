"""The nearest evaluation image of each image of a shard, searched for as images arrive."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock

import numpy as np
import numpy.typing as npt

from alignset.transforms.arrivals.images import Images
from alignset.transforms.decontamination.copy_thumbnails import stack_thumbnails
from alignset.transforms.decontamination.evaluation_index import EvaluationIndex
from alignset.transforms.images.examine import Image

# Searched for together, which costs half of what one at a time costs; their thumbnails are 2 MiB.
_SEARCHED_AT_ONCE = 256
Planes = npt.NDArray[np.uint8]  # [n, 2, 64, 64]


class EvaluationSearch:
    """Finds the nearest evaluation image of images that come in any order, on any thread.

    Args:
      index: None finds none.
      images: of the shard, whose column `nearest` is filled.
    """

    def __init__(self, index: EvaluationIndex | None, images: Images) -> None:
        self.index, self._images = index, images
        self._lock = Lock()
        self._rows: list[int] = []
        self._planes: list[Planes] = []

    def add(self, images: Mapping[int, Image]) -> None:
        """Has images searched for, now or with others.

        Args:
          images: what `examine` said of them, by their rows in the shard.
        """
        if self.index is None or not images:
            return
        planes = stack_thumbnails([*images.values()])
        with self._lock:
            self._rows += images
            self._planes.append(planes)
            is_full = len(self._rows) >= _SEARCHED_AT_ONCE
        if is_full:
            self.finish()

    def finish(self) -> None:
        """Searches for those that wait."""
        with self._lock:
            rows, planes = self._rows, self._planes
            self._rows, self._planes = [], []
        if self.index is not None and rows:
            for row, nearest in zip(rows, self.index.nearest(np.concatenate(planes)), strict=True):
                self._images.note(row, nearest=nearest)
