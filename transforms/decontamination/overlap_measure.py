"""Measures of overlap: the distance of an image to the images of an evaluation dataset."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from alignset.transforms.images.examine import Image

Features = npt.NDArray[Any]  # of n images, a row each


class Shown(NamedTuple):
    """An image as a measure sees it: its file's bytes, what `examine` says of them, and whether
    that was asked to decode a JPEG in full."""

    body: bytes
    image: Image
    in_full: bool = False


class Nearest(NamedTuple):
    """The nearest evaluation image of an image.

    Attributes:
      row: its number in the index. distance: in the measure's own unit, 0 or more.
      numbers: what the measure found on the way, by name, such as the parts of a check.
    """

    row: int
    distance: float
    numbers: Mapping[str, float | str]


class OverlapIndex(Protocol):
    """An index of evaluation images that is open. For all threads."""

    def nearest(self, features: Features) -> Sequence[Nearest | None]:
        """The nearest evaluation image of each image, None where nothing can be said. The result
        for one does not depend on the others."""
        ...


class OverlapMeasure(Hashable, Protocol):
    """A way of telling how near two images are. Small, and given to all workers."""

    @property
    def name(self) -> str:
        """As in `--overlap_measure`."""
        ...

    @property
    def settings(self) -> dict[str, str]:
        """All that decides an index of the same images, and what is found in it."""
        ...

    @property
    def row_type(self) -> np.dtype[Any]:
        """The type of a row of features, with its shape."""
        ...

    @property
    def min_distance(self) -> float:
        """Images nearer than this are copies by default."""
        ...

    @property
    def quick_error(self) -> float:
        """How much farther a JPEG may seem by the small thumbnail of a quick look."""
        ...

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the files that `build` writes."""
        ...

    def features(self, looks: Sequence[Shown]) -> Features:
        """The rows by which images are compared. A row does not depend on the others."""
        ...

    def build(self, features: Iterable[Features], count: int, folder: Path) -> None:
        """Writes the files of an index of so many images into a folder of this machine."""
        ...

    def open(self, folder: Path) -> OverlapIndex:
        """Opens an index; what is large is mapped, so that processes share it."""
        ...


def joined(features: Iterable[Features], row_type: np.dtype[Any]) -> Features:
    """Rows of features one after another in one array."""
    kind, shape = row_type.subdtype or (row_type, ())
    return np.concatenate([np.empty((0, *shape), kind), *features])
