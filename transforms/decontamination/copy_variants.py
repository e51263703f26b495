"""The thumbnails under which an evaluation image stands in the index: whole, cropped, mirrored.

A crop moves too much for a descriptor that tells a hundred thousand images apart. So the index
holds crops of each evaluation image, and a copy needs to be near one of them only.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from alignset.transforms.decontamination.copy_planes import SIDE_PX, Plane


class Variant(NamedTuple):
    """A part of an evaluation image.

    Attributes:
      name: for people, as in "crop_75_top_left_mirrored".
      of_trimmed: whether it is of the trimmed thumbnail.
      size: of its sides, as a share of the thumbnail's.
      x_px, y_px: its left upper corner in the thumbnail.
      is_mirrored: whether it is then flipped left to right.
    """

    name: str
    of_trimmed: bool
    size: float
    x_px: int
    y_px: int
    is_mirrored: bool

    @property
    def start_px(self) -> tuple[float, int]:
        """Where its left upper corner is in the thumbnail, flipped where the variant is."""
        left = SIDE_PX * (1 - self.size) - self.x_px if self.is_mirrored else self.x_px
        return left, self.y_px


def _crops(side_px: int, down: dict[str, int], across: dict[str, int]) -> list[Variant]:
    size = side_px / SIDE_PX
    return [
        Variant(f"crop_{round(100 * size)}_{y_name}_{x_name}", True, size, x, y, False)
        for y_name, y in down.items()
        for x_name, x in across.items()
    ]


def _all_variants() -> tuple[Variant, ...]:
    upright = [
        Variant("whole", False, 1.0, 0, 0, False),
        Variant("trimmed", True, 1.0, 0, 0, False),
        *_crops(56, {"top": 0, "bottom": 8}, {"left": 0, "right": 8}),
        *_crops(48, {"top": 0, "middle": 8, "bottom": 16}, {"left": 0, "centre": 8, "right": 16}),
    ]
    mirrored = [v._replace(name=f"{v.name}_mirrored", is_mirrored=True) for v in upright]
    return *upright, *mirrored


VARIANTS = _all_variants()


def variants_of(
    pair: npt.NDArray[np.uint8],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]:
    """The variants of an image, and their thumbnails.

    Args:
      pair: uint8[2, 64, 64], its whole and its trimmed thumbnail.

    Returns:
      int32[m], their numbers in `VARIANTS`, and uint8[m, 64, 64]. m is 30, and 28 where nothing was
      trimmed and both thumbnails are the same. Takes 0.1 ms.
    """
    is_trimmed = bool((pair[0] != pair[1]).any())
    numbers = [n for n, v in enumerate(VARIANTS) if is_trimmed or v.size < 1 or not v.of_trimmed]
    half = len(numbers) // 2
    made = np.empty((len(numbers), SIDE_PX, SIDE_PX), np.uint8)
    for at, number in enumerate(numbers[:half]):
        made[at] = _cut(pair[int(VARIANTS[number].of_trimmed)], VARIANTS[number])
    made[half:] = made[:half, :, ::-1]
    return np.array(numbers, np.int32), made


def _cut(plane: Plane, variant: Variant) -> Plane:
    if variant.size == 1:
        return plane
    side = round(SIDE_PX * variant.size)
    x, y = variant.x_px, variant.y_px
    part = plane[y : y + side, x : x + side]
    whole = cv2.resize(part, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_LINEAR)
    return np.asarray(whole, np.uint8)
