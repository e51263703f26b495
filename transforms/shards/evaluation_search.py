"""The nearest evaluation image of each image of a shard, searched for as images arrive."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

import numpy as np
import pyarrow as pa

from transforms.decontamination.evaluation_index import EvaluationIndex
from transforms.decontamination.overlap_measure import Features, Look, Nearest

# Searched for together, which costs half of what one at a time costs; their features are 2 MiB.
_SEARCHED_AT_ONCE = 256


class EvaluationSearch:
    """Finds the nearest evaluation image of images that come in any order, on any thread.

    Args:
      index: None finds none.
      size: how many images the shard has.
    """

    def __init__(self, index: EvaluationIndex | None, size: int) -> None:
        self.nearest: list[Nearest | None] = [None] * size
        self._index = index
        self._lock = Lock()
        self._rows: list[int] = []
        self._features: list[Features] = []

    def put(self, rows: Sequence[int], looks: Sequence[Look]) -> None:
        """Has images searched for, now or with others.

        Args:
          rows: of the images in the shard. looks: of the same.
        """
        if self._index is None or not looks:
            return
        features = self._index.measure.features(looks)
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
        if self._index is not None and rows:
            found = self._index.nearest(np.concatenate(features))
            for row, nearest in zip(rows, found, strict=True):
                self.nearest[row] = nearest

    @property
    def distances(self) -> pa.DoubleArray:
        """float64[n], to the nearest evaluation image; null where there is none."""
        found = [None if nearest is None else nearest.distance for nearest in self.nearest]
        return pa.array(found, pa.float64())
