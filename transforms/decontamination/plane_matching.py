"""Where the middle of one small plane is found in another, over sizes and shifts.

Planes of 32 px are matched: that is as near as Lucas-Kanade needs, and an eighth of the work.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from transforms.columns.kernels import allocating_kernel, summing_kernel
from transforms.decontamination.plane_alignment import Placement, Samples, placement_of

HALF_PX = 32
# Sides of the query in the evaluation image's plane that are tried: above 32 it has a border or
# bars that were not trimmed, 22 is a crop to 70 %. Lucas-Kanade closes gaps of 10 %.
_SIDES_PX = (38, 35, 32, 29, 27, 25, 22, 20)
_MARGIN = 0.12  # of a side, not matched; rotation and banners change the margins most
_ROOM_PX = 4  # for shifts of what is larger than the plane
LEAST_ENERGY = 1.0  # of a window's detail: less is flat


class Match(NamedTuple):
    """Where the query is found best: `placement` is of planes of 32 px, `score` -1 to 1."""

    score: float
    placement: Placement


class Templates:
    """The middles of one query at each size.

    Args:
      query: `normalised_detail` of its plane, float32[32, 32].
    """

    def __init__(self, query: Samples) -> None:
        self.templates = [_template(query, side) for side in _SIDES_PX]

    def best(self, evaluation: Samples) -> Match:
        """Where the query is found in an evaluation image's detail, float32[32, 32]. 50 us."""
        squares = np.asarray(cv2.integral(evaluation * evaluation), np.float64)
        sums = np.asarray(cv2.integral(evaluation), np.float64)
        best = (-2.0, 0, 0, 0)
        for number, (template, _) in enumerate(self.templates):
            score, x, y = matched(template, evaluation, sums, squares)
            best = max(best, (score, -number, x, y))
        score, number, x, y = best
        side, margin = _SIDES_PX[-number], self.templates[-number][1]
        return Match(score, placement_of(side / HALF_PX, x - margin, y - margin))


def _template(query: Samples, side: int) -> tuple[Samples, int]:
    """The middle of the query at a size, of mean 0 and length 1 (or 0), and how wide the rest is
    on each side."""
    how = cv2.INTER_AREA if side < HALF_PX else cv2.INTER_LINEAR
    margin = round(side * _MARGIN)
    if side > HALF_PX:
        margin = max(margin, (side - HALF_PX + _ROOM_PX) // 2)
    scaled = cv2.resize(query, (side, side), interpolation=how)
    template = np.array(scaled[margin : side - margin, margin : side - margin], np.float32)
    template -= template.mean()
    length = float(np.sqrt((template * template).sum()))
    return template / np.float32(max(length, np.sqrt(LEAST_ENERGY))), margin


@allocating_kernel
def matched(
    template: Samples,
    evaluation: Samples,
    sums: npt.NDArray[np.float64],
    squares: npt.NDArray[np.float64],
) -> tuple[float, int, int]:
    """The best normalised correlation over all shifts, and the shift along x and y."""
    side = len(template)
    shifts = len(evaluation) - side + 1
    products = np.empty(shifts, np.float32)
    best, best_x, best_y = -2.0, 0, 0
    for top in range(shifts):
        _products(template, evaluation, top, products)
        end = top + side
        for left in range(shifts):
            right = left + side
            total = sums[end, right] - sums[top, right] - sums[end, left] + sums[top, left]
            energy = squares[end, right] - squares[top, right]
            energy += squares[top, left] - squares[end, left] - total * total / (side * side)
            score = products[left] / np.sqrt(max(energy, LEAST_ENERGY))
            if score > best:
                best, best_x, best_y = score, left, top
    return best, best_x, best_y


@summing_kernel
def _products(template: Samples, evaluation: Samples, top: int, products: Samples) -> None:
    """The sums of products of the template and each window of a row of windows."""
    side = len(template)
    products[:] = 0
    for y in range(side):
        for left in range(len(products)):
            total = np.float32(0)
            for x in range(side):
                total += template[y, x] * evaluation[top + y, left + x]
            products[left] += total
