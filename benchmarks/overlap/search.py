"""What the measures say of each picture: by copies, and by perceptual hashes alone."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.overlap.measured_pictures import Pictures
from transforms.decontamination.copy_index import CopyIndex, CopyMatch
from transforms.decontamination.copy_index_files import build_copy_index

_AT_ONCE = 64


@dataclass(frozen=True)
class Built:
    """An index, and what it took.

    Attributes:
      ms: CPU time an image.
      megabytes: on disk, an index of so many images.
    """

    index: CopyIndex
    folder: tempfile.TemporaryDirectory[str]
    ms: float
    megabytes: dict[str, float]


def build(evaluation: Pictures) -> Built:
    """The index of evaluation images, in a temporary folder."""
    from pathlib import Path

    folder = tempfile.TemporaryDirectory(prefix="copy-index-")
    begin = time.process_time()
    build_copy_index(_parts(evaluation.planes), folder.name)
    ms = (time.process_time() - begin) / max(1, len(evaluation)) * 1e3
    sizes = {path.name: path.stat().st_size / 1e6 for path in Path(folder.name).iterdir()}
    return Built(CopyIndex.open(folder.name), folder, ms, sizes)


def _parts(planes: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.uint8]]:
    for first in range(0, len(planes), 1024):
        yield planes[first : first + 1024]


def matches_of(index: CopyIndex, pictures: Pictures) -> list[CopyMatch]:
    """The match of each picture."""
    found: list[CopyMatch] = []
    for first in range(0, len(pictures), _AT_ONCE):
        some = pictures.planes[first : first + _AT_ONCE]
        found += index.nearest(some[:, 0], some[:, 1])
    return found


def hash_distances(pictures: Pictures, evaluation: Pictures) -> npt.NDArray[np.int32]:
    """int32[n]: the bits to the nearest evaluation image's perceptual hash."""
    nearest = [np.bitwise_count(evaluation.phashes ^ phash).min() for phash in pictures.phashes]
    return np.array(nearest, np.int32)
