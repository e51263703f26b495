"""How one small thumbnail is aligned with another: by affine Lucas-Kanade, up to 64 px a side."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from alignset.transforms.columns.kernels import allocating_kernel, kernel, summing_kernel
from alignset.transforms.decontamination.copy_planes import SIDE_PX, Plane
from alignset.transforms.decontamination.plane_placement import (
    Placement,
    Row,
    Samples,
    is_plausible,
    place_row,
    places_of,
)

Equations = npt.NDArray[np.float64]

_LOW_CONTRAST = 4.0  # grey levels, of the local contrast by which detail is divided
# At each edge, where filters see beyond it.
_UNCLEAR_SHARE = 3 / 64
_SETTLED_SHARE = 0.05 / 64  # of the side: a step that moves no pixel farther is the last
_RESIDUAL_SCALE = 0.7  # of normalised detail; larger ones hardly count, as under a logo
_MOST_RESIDUAL = 50.0
_SUMS = 13  # of a column's pixels, in the normal equations of a step
# How firmly a step is held back where the image does not tell: the matrix has its mean diagonal
# times this added, which lets shifts move ten times as easily as it lets scales.
_SCALE_DAMPING, _SHIFT_DAMPING = 1e-5, 1e-6


def blurred(samples: Samples, sigma_px: float) -> Samples:
    return np.asarray(cv2.GaussianBlur(samples, (0, 0), sigma_px), np.float32)


def normalised_detail(plane: Plane | Samples, local_px: float) -> Samples:
    """Differences from the surroundings, in units of their contrast: tone and light fall out."""
    # Beyond two deviations a pixel counts too little to be worth its time.
    window = (2 * round(2 * local_px) + 1,) * 2
    smooth = cv2.GaussianBlur(np.asarray(plane, np.float32), (5, 5), 0.7)
    detail = smooth - cv2.GaussianBlur(smooth, window, local_px)
    contrast = cv2.sqrt(cv2.GaussianBlur(detail * detail, window, local_px))
    return np.asarray(detail / (contrast + np.float32(_LOW_CONTRAST)), np.float32)


class Aligner:
    """Refines placements of one query, by robust inverse compositional Lucas-Kanade.

    Args:
      query: `normalised_detail` of its thumbnail, float32[side, side].

    Source: Baker and Matthews (2004), "Lucas-Kanade 20 Years On", section 3.2.
    """

    def __init__(self, query: Samples) -> None:
        self._query = blurred(query, 1.0)
        right = np.asarray(cv2.Sobel(self._query, cv2.CV_32F, 1, 0, scale=1 / 8), np.float32)
        down = np.asarray(cv2.Sobel(self._query, cv2.CV_32F, 0, 1, scale=1 / 8), np.float32)
        unclear = _unclear_px(len(query))
        for slopes in (right, down):  # a pixel without a slope counts nothing
            slopes[:, :unclear] = slopes[:, -unclear:] = 0
        self._slopes = right, down

    def refined(
        self, evaluation: Samples, start: Placement, steps: int, every: int = 1
    ) -> Placement:
        """The placement nearby at which the two agree best.

        Args:
          evaluation: `normalised_detail` of its thumbnail, blurred by 1 px.
          start: within a tenth of a side.
          steps: at most. every: which of its rows are looked at.
        """
        try:
            refined: Placement = refine(self._query, *self._slopes, evaluation, start, steps, every)
        except np.linalg.LinAlgError:  # the equations have no solution
            return start
        return refined


@kernel
def _unclear_px(side: int) -> int:
    return int(side * _UNCLEAR_SHARE + 0.6)


@allocating_kernel
def refine(
    query: Samples,
    right: Samples,
    down: Samples,
    evaluation: Samples,
    start: Placement,
    steps: int,
    every: int,
) -> Placement:
    side = len(query)
    if side > SIDE_PX:
        raise ValueError("planes have at most 64 px a side")
    unclear = _unclear_px(side)
    placement = start.copy()
    there, places = np.empty(side, np.float32), places_of(side)
    sums = np.empty(_SUMS * SIDE_PX, np.float32)
    curvature, step = np.empty((6, 6)), np.empty(6)
    for _ in range(steps):
        if not is_plausible(placement):
            break
        sums[:] = 0
        for y in range(unclear, side - unclear, every):
            place_row(evaluation, placement, y, places, there)
            _add_row(there, query[y], right[y], down[y], y, sums)
        _by_unknowns(sums, side, curvature, step)
        if not _solve(curvature, step):  # nothing is seen, or all is flat
            break
        if not _compose(placement, step):
            break
        reach = abs(step[2]) + abs(step[5])
        reach += side / 2 * (abs(step[0]) + abs(step[1]) + abs(step[3]) + abs(step[4]))
        if reach < _SETTLED_SHARE * side:
            break
    return placement


@summing_kernel
def _add_row(there: Row, query: Row, right: Row, down: Row, line: int, sums: Row) -> None:
    """Adds a row's weighted normal equations to each column's, by powers of y."""
    y, width = np.float32(line), SIDE_PX
    for x in range(len(query)):
        residual = there[x] - query[x]
        scaled = residual * np.float32(1 / _RESIDUAL_SCALE)
        seen = np.float32(abs(residual) < np.float32(_MOST_RESIDUAL))
        weight = seen / (np.float32(1) + scaled * scaled)
        wx, wy = weight * right[x], weight * down[x]
        xx, xy, yy = wx * right[x], wx * down[x], wy * down[x]
        rx, ry = wx * residual, wy * residual
        sums[x] += xx
        sums[width + x] += xx * y
        sums[2 * width + x] += xx * y * y
        sums[3 * width + x] += xy
        sums[4 * width + x] += xy * y
        sums[5 * width + x] += xy * y * y
        sums[6 * width + x] += yy
        sums[7 * width + x] += yy * y
        sums[8 * width + x] += yy * y * y
        sums[9 * width + x] += rx
        sums[10 * width + x] += rx * y
        sums[11 * width + x] += ry
        sums[12 * width + x] += ry * y


@kernel
def _by_unknowns(sums: Row, side: int, curvature: Equations, descent: Equations) -> None:
    """The equations float64[6, 6] and float64[6] out of the columns' sums. Each column's is here
    multiplied by its x.

    Their unknowns are the change along x by x, y and 1, and the change along y by the same.
    """
    curvature[:] = 0
    descent[:] = 0
    for x in range(side):
        for block in range(3):  # x with x, x with y, y with y
            at = 3 * block * SIDE_PX + x
            n0, n1, n2 = sums[at], sums[at + SIDE_PX], sums[at + 2 * SIDE_PX]
            i, j = 3 * (block // 2), 3 * ((block + 1) // 2)
            curvature[i, j] += n0 * x * x
            curvature[i, j + 1] += n1 * x
            curvature[i, j + 2] += n0 * x
            curvature[i + 1, j + 1] += n2
            curvature[i + 1, j + 2] += n1
            curvature[i + 2, j + 2] += n0
        for half in range(2):
            at = (9 + 2 * half) * SIDE_PX + x
            n0, n1 = sums[at], sums[at + SIDE_PX]
            descent[3 * half] += n0 * x
            descent[3 * half + 1] += n1
            descent[3 * half + 2] += n0
    for block in range(3):  # each block is symmetric, and so is the whole
        i, j = 3 * (block // 2), 3 * ((block + 1) // 2)
        curvature[i + 1, j] = curvature[i, j + 1]
        curvature[i + 2, j] = curvature[i, j + 2]
        curvature[i + 2, j + 1] = curvature[i + 1, j + 2]
    for i in range(3):
        for j in range(3):
            curvature[3 + i, j] = curvature[j, 3 + i]


@allocating_kernel
def _solve(matrix: Equations, right: Equations) -> bool:
    """Solves the damped equations, the step instead of the right side; whether they have a
    solution. The damping makes them positive definite unless nothing has a slope."""
    trace = np.trace(matrix)
    if not 0 < trace < np.inf:
        return False
    for i in range(len(right)):
        matrix[i, i] += trace / len(right) * (_SHIFT_DAMPING if i % 3 == 2 else _SCALE_DAMPING)
    right[:] = np.linalg.solve(matrix, right)
    return True


@kernel
def _compose(placement: Placement, step: Equations) -> bool:
    """Puts the inverse of a step before the placement; whether there is one."""
    a, b, c, d, e, f = step[0] + 1, step[1], step[2], step[3], step[4] + 1, step[5]
    area = a * e - b * d
    if not abs(area) > 0.1:
        placement[:] = np.nan
        return False
    a, b, d, e = e / area, -b / area, -d / area, a / area  # the inverse
    c, f = -(a * c + b * f), -(d * c + e * f)
    for row in range(2):
        x, y, one = placement[row, 0], placement[row, 1], placement[row, 2]
        placement[row, 0] = x * a + y * d
        placement[row, 1] = x * b + y * e
        placement[row, 2] = x * c + y * f + one
    return True
