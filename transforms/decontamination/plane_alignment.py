"""Where one small plane lies in another: by template matching, then affine Lucas-Kanade.

A placement is an affine map, float32[2, 3], from the pixels of the query's plane to those of the
evaluation image's: `evaluation(placement @ (x, y, 1)) = query(x, y)`.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from transforms.columns.kernels import allocating_kernel, summing_kernel
from transforms.decontamination.copy_planes import SIDE_PX, Plane

Samples = npt.NDArray[np.float32]  # [64, 64]
Placement = npt.NDArray[np.float32]  # [2, 3]

# Sizes of the query in the evaluation image's plane that are tried: above 1 it has a border or bars
# that were not trimmed, .7 is a crop to 70%. Lucas-Kanade closes gaps of 10%.
_SIZES = (1.2, 1.1, 1.0, 0.92, 0.84, 0.77, 0.7, 0.64)
_TEMPLATE_MARGIN = 0.12  # of a side; rotation and banners change the margins most
_LOCAL_PX, _LOW_CONTRAST = 5.0, 4.0  # of the local contrast by which detail is divided
_UNCLEAR_PX = 3  # at each edge, where filters see beyond it
_STEPS = 12
_SETTLED_PX = 0.05  # a step that moves no pixel farther is the last
_RESIDUAL_SCALE = 0.7  # of normalised detail; larger ones hardly count, as under a logo
_OUTSIDE = 1e3  # no detail has it: it marks pixels beyond the evaluation image's plane
_MOST_RESIDUAL = 50.0
# How firmly a step is held back where the picture does not tell: the matrix has its mean diagonal
# times this added, which lets shifts move ten times as easily as it lets scales.
_DAMPING = np.array([1e-5, 1e-5, 1e-6, 1e-5, 1e-5, 1e-6])
_INVERSE: Any = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP


def blurred(samples: Samples, sigma_px: float) -> Samples:
    return np.asarray(cv2.GaussianBlur(samples, (0, 0), sigma_px), np.float32)


def normalised_detail(plane: Plane) -> Samples:
    """What differs from its surroundings, in units of their contrast: tone and light fall out."""
    smooth = blurred(plane.astype(np.float32), 0.7)
    detail = smooth - blurred(smooth, _LOCAL_PX)
    contrast = np.sqrt(blurred(detail * detail, _LOCAL_PX))
    return np.asarray(detail / (contrast + _LOW_CONTRAST), np.float32)


def placed(samples: Samples, placement: Placement, outside: float = 0.0) -> Samples:
    """The evaluation image's samples at the query's pixels; `outside` beyond its plane."""
    size = (SIDE_PX, SIDE_PX)
    warped = cv2.warpAffine(samples, placement, size, flags=_INVERSE, borderValue=outside)
    return np.asarray(warped, np.float32)


def placement_of(size: float, x_px: float, y_px: float) -> Placement:
    """A query scaled by `size` whose left upper corner is at (x_px, y_px)."""
    centre = (size - 1) / 2  # pixels are squares around their coordinates
    return np.array([[size, 0, x_px + centre], [0, size, y_px + centre]], np.float32)


def coarse_placement(query: Samples, evaluation: Samples) -> Placement:
    """Where the query's middle is found best, over sizes; both are `normalised_detail`. 0.5 ms."""
    best, found = -2.0, placement_of(1.0, 0.0, 0.0)
    for size in _SIZES:
        side = round(SIDE_PX * size)
        how = cv2.INTER_AREA if side < SIDE_PX else cv2.INTER_LINEAR
        margin = round(side * _TEMPLATE_MARGIN)
        if side > SIDE_PX:  # room for a shift
            margin = max(margin, (side - SIDE_PX + 8) // 2)
        scaled = cv2.resize(query, (side, side), interpolation=how)
        template = scaled[margin : side - margin, margin : side - margin]
        scores = cv2.matchTemplate(evaluation, template, cv2.TM_CCOEFF_NORMED)
        _, score, _, (x, y) = cv2.minMaxLoc(scores)
        if best < score < 1.5:  # of what is flat OpenCV may say anything
            best, found = score, placement_of(side / SIDE_PX, x - margin, y - margin)
    return found


class Aligner:
    """Refines placements of one query, by robust inverse compositional Lucas-Kanade.

    Args:
      query: `normalised_detail` of its plane.

    Source: Baker and Matthews (2004), "Lucas-Kanade 20 Years On", section 3.2.
    """

    def __init__(self, query: Samples) -> None:
        self._query = blurred(query, 1.0)
        right = cv2.Sobel(self._query, cv2.CV_32F, 1, 0, scale=1 / 8)
        down = cv2.Sobel(self._query, cv2.CV_32F, 0, 1, scale=1 / 8)
        self._slopes = np.asarray(right, np.float32), np.asarray(down, np.float32)

    def refined(self, evaluation: Samples, start: Placement) -> Placement:
        """The placement nearby at which the two agree best. 25 us a step, of up to 12.

        Args:
          evaluation: `normalised_detail` of its plane, blurred by 1 px.
          start: within a tenth of a side.
        """
        placement = start
        for _ in range(_STEPS):
            step = self._step(evaluation, placement)
            if step is None:
                break
            placement = _composed(placement, step)
            reach_px = abs(step[2]) + abs(step[5])
            reach_px += SIDE_PX / 2 * (abs(step[0]) + abs(step[1]) + abs(step[3]) + abs(step[4]))
            if reach_px < _SETTLED_PX or not is_plausible(placement):
                break
        return placement

    def _step(self, evaluation: Samples, placement: Placement) -> list[float] | None:
        there = placed(evaluation, placement, _OUTSIDE)
        curvature, descent = _normal_equations(there, self._query, *self._slopes)
        curvature.flat[::7] += np.trace(curvature) / 6 * _DAMPING
        try:
            step: list[float] = np.linalg.solve(curvature, descent).tolist()
        except np.linalg.LinAlgError:  # nothing is seen, or all is flat
            return None
        return step


@summing_kernel
def _normal_equations(
    there: Samples, query: Samples, right: Samples, down: Samples
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The weighted normal equations of a step: float64[6, 6] and float64[6].

    Their unknowns are the change along x by x, y and 1, and the change along y by the same.
    """
    by_row = np.zeros((SIDE_PX, 13), np.float32)
    for y in range(_UNCLEAR_PX, SIDE_PX - _UNCLEAR_PX):
        a0 = a1 = a2 = b0 = b1 = b2 = c0 = c1 = c2 = r0 = r1 = d0 = d1 = np.float32(0)
        for at in range(_UNCLEAR_PX, SIDE_PX - _UNCLEAR_PX):
            x = np.float32(at)
            residual = there[y, at] - query[y, at]
            scaled = residual * np.float32(1 / _RESIDUAL_SCALE)
            seen = np.float32(abs(residual) < _MOST_RESIDUAL)
            weight = seen / (np.float32(1) + scaled * scaled)
            gx, gy = right[y, at], down[y, at]
            wx, wy = weight * gx, weight * gy
            a, b, c, r, d = wx * gx, wx * gy, wy * gy, wx * residual, wy * residual
            a0 += a
            a1 += a * x
            a2 += a * x * x
            b0 += b
            b1 += b * x
            b2 += b * x * x
            c0 += c
            c1 += c * x
            c2 += c * x * x
            r0 += r
            r1 += r * x
            d0 += d
            d1 += d * x
        by_row[y] = (a0, a1, a2, b0, b1, b2, c0, c1, c2, r0, r1, d0, d1)
    return _by_unknowns(by_row)


@allocating_kernel
def _by_unknowns(
    by_row: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The equations out of each row's sums, by powers of x, which are still without y."""
    curvature, descent = np.zeros((6, 6)), np.zeros(6)
    for y in range(len(by_row)):
        for block in range(3):  # x with x, x with y, y with y
            n0, n1, n2 = by_row[y, 3 * block], by_row[y, 3 * block + 1], by_row[y, 3 * block + 2]
            i, j = 3 * (block // 2), 3 * ((block + 1) // 2)
            curvature[i, j] += n2
            curvature[i, j + 1] += n1 * y
            curvature[i, j + 2] += n1
            curvature[i + 1, j + 1] += n0 * y * y
            curvature[i + 1, j + 2] += n0 * y
            curvature[i + 2, j + 2] += n0
        for half in range(2):
            n0, n1 = by_row[y, 9 + 2 * half], by_row[y, 10 + 2 * half]
            descent[3 * half] += n1
            descent[3 * half + 1] += n0 * y
            descent[3 * half + 2] += n0
    for i, j in ((0, 0), (0, 3), (3, 3)):  # each block is symmetric, and so is the whole
        curvature[i + 1, j] = curvature[i, j + 1]
        curvature[i + 2, j] = curvature[i, j + 2]
        curvature[i + 2, j + 1] = curvature[i + 1, j + 2]
    curvature[3:, :3] = curvature[:3, 3:]
    return curvature, descent


def is_plausible(placement: Placement) -> bool:
    """Whether the query is about as large as in the index's variants, and hardly turned."""
    (xx, xy, x), (yx, yy, y) = placement.tolist()
    return (  # what is no number is in no range
        0.45 < xx < 1.45
        and 0.45 < yy < 1.45
        and max(abs(xy), abs(yx)) < 0.25
        and max(abs(x), abs(y)) < 2 * SIDE_PX
    )


def _composed(placement: Placement, step: list[float]) -> Placement:
    """The placement after the inverse of a step on the query's side."""
    (xx, xy, x), (yx, yy, y) = placement.tolist()
    a, b, c, d, e, f = step
    a, e = a + 1, e + 1
    area = a * e - b * d
    if not abs(area) > 0.1:
        return np.full((2, 3), np.nan, np.float32)
    a, b, d, e = e / area, -b / area, -d / area, a / area  # the inverse
    c, f = -(a * c + b * f), -(d * c + e * f)
    rows = (
        (xx * a + xy * d, xx * b + xy * e, xx * c + xy * f + x),
        (yx * a + yy * d, yx * b + yy * e, yx * c + yy * f + y),
    )
    return np.array(rows, np.float32)
