"""The nearest evaluation image of each image of a shard, searched for as images arrive."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import compress
from threading import Lock

import numpy as np
import pyarrow as pa

from alignset.transforms.decontamination.evaluation_index import EvaluationIndex
from alignset.transforms.decontamination.overlap_measure import Features, Nearest, Shown
from alignset.transforms.images.examine import Image
from alignset.transforms.rules.catalogue import RunRules
from alignset.transforms.rules.verdicts import fit, size_rows

# Searched for together, which costs half of what one at a time costs; their features are 6 MiB.
_SEARCHED_AT_ONCE = 256


class EvaluationSearch:
    """Finds the nearest evaluation image of images that come in any order, on any thread.

    An image that is too small or too long is not searched for.

    Args:
      index: None finds none.
      size: how many images the shard has.
      rules: sizes are judged here.
    """

    def __init__(self, index: EvaluationIndex | None, size: int, rules: RunRules) -> None:
        self.nearest: list[Nearest | None] = [None] * size
        self.index, self._rules = index, rules
        self._lock = Lock()
        self._rows: list[int] = []
        self._features: list[Features] = []

    def add(self, images: Mapping[int, tuple[bytes, Image]], *, in_full: bool = False) -> None:
        """Has images searched for, now or with others.

        Args:
          images: files, and what `examine` said of them, by their rows in the shard.
          in_full: whether that was asked to decode JPEGs in full.
        """
        if self.index is None:
            return
        looks = {row: Shown(body, image, in_full) for row, (body, image) in images.items()}
        facts = [image for _, image in images.values()]
        of_sizes = size_rows([image.width for image in facts], [image.height for image in facts])
        fitting = list(compress(looks, fit(self._rules, of_sizes)))
        if not fitting:
            return
        features = self.index.measure.features([looks[row] for row in fitting])
        with self._lock:
            self._rows.extend(fitting)
            self._features.append(features)
            if len(self._rows) < _SEARCHED_AT_ONCE:
                return
            batch = self._next_batch()
        self._search(*batch)

    def finish(self) -> None:
        """Searches for those that wait; then `nearest` is whole."""
        with self._lock:
            batch = self._next_batch()
        self._search(*batch)

    def _next_batch(self) -> tuple[list[int], list[Features]]:
        batch = self._rows, self._features
        self._rows, self._features = [], []
        return batch

    def _search(self, rows: list[int], features: list[Features]) -> None:
        if self.index is not None and rows:
            neighbours = self.index.nearest(np.concatenate(features))
            for row, nearest in zip(rows, neighbours, strict=True):
                self.nearest[row] = nearest

    @property
    def distances(self) -> pa.DoubleArray:
        """float64[n], to the nearest evaluation image; null where there is none."""
        distances = [None if nearest is None else nearest.distance for nearest in self.nearest]
        return pa.array(distances, pa.float64())
