"""Results of the measures for each image: by copies, and by perceptual hashes alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from alignset.transforms.decontamination.copy_index import CopyIndex, Nearest, build_copy_index
from alignset.transforms.images.perceptual_hash import thumbnail_hash
from benchmarks.overlap.measured_pictures import Pictures

_AT_ONCE = 64
NOTHING_NEAR = Nearest(-1, 2.0, {})


class Built(NamedTuple):
    """An index, and what it took.

    Attributes:
      ms: CPU time an image; 0 where it was there already.
      megabytes: of its files.
    """

    index: CopyIndex
    ms: float
    megabytes: dict[str, float]


def built(planes: npt.NDArray[np.uint8], folder: Path) -> Built:
    """The index of evaluation images in a folder; an earlier run's, where it is of as many."""
    ms = 0.0
    index = _opened(folder)
    if index is None or len(index) != len(planes):
        folder.mkdir(parents=True, exist_ok=True)
        begin = time.process_time()
        build_copy_index(_parts(planes), folder)
        ms = (time.process_time() - begin) / len(planes) * 1e3
        index = CopyIndex(folder)
    return Built(index, ms, {path.name: path.stat().st_size / 1e6 for path in folder.iterdir()})


def _opened(folder: Path) -> CopyIndex | None:
    try:
        return CopyIndex(folder)
    except ValueError:
        return None


def _parts(planes: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.uint8]]:
    for first in range(0, len(planes), 1024):
        yield planes[first : first + 1024]


def matches_of(index: CopyIndex, pictures: Pictures) -> tuple[list[Nearest], float]:
    """The match of each image among the indexed ones, and the CPU time an image in us."""
    found: list[Nearest] = []
    begin = time.process_time()
    for first in range(0, len(pictures), _AT_ONCE):
        some = pictures.planes[first : first + _AT_ONCE]
        found += [near or NOTHING_NEAR for near in index.nearest(some)]
    return found, (time.process_time() - begin) / max(1, len(pictures)) * 1e6


def hash_distances(pictures: Pictures, evaluation: npt.NDArray[np.uint64]) -> npt.NDArray[np.int32]:
    """int32[n]: the bits to the nearest of the evaluation images' perceptual hashes."""
    nearest = [np.bitwise_count(evaluation ^ phash).min() for phash in pictures.phashes]
    return np.array(nearest, np.int32)


def hashes_of(planes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """uint64[n]: the perceptual hashes of whole thumbnails, where nothing larger was kept."""
    return np.array([thumbnail_hash(pair[0]) for pair in planes], np.uint64)
