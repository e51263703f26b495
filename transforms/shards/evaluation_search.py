"""The nearest evaluation image of each image of a shard, searched for as images arrive."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from threading import Lock

import numpy as np
import pyarrow as pa

from alignset.transforms.decontamination.evaluation_index import EvaluationIndex
from alignset.transforms.decontamination.overlap_measure import Features, Look, Nearest
from alignset.transforms.images.examine import Image, Unusable
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
      rules: those of sizes are judged here.
    """

    def __init__(self, index: EvaluationIndex | None, size: int, rules: RunRules) -> None:
        self.nearest: list[Nearest | None] = [None] * size
        self.index, self._rules = index, rules
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
        seen = [look.image for look in looks.values()]
        rows_of_sizes = size_rows([image.width for image in seen], [image.height for image in seen])
        wanted = list(compress(looks, fit(self._rules, rows_of_sizes)))
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
