"""Where one small plane lies in another: by template matching, then affine Lucas-Kanade.

A placement is an affine map, float32[2, 3], from the pixels of the query's plane to those of the
evaluation image's: `evaluation(placement @ (x, y, 1)) = query(x, y)`.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

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
_Y, _X = (at.astype(np.float32) for at in np.mgrid[:SIDE_PX, :SIDE_PX])
_CLEAR = np.s_[_UNCLEAR_PX:-_UNCLEAR_PX, _UNCLEAR_PX:-_UNCLEAR_PX]


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
        smooth = blurred(query, 1.0)
        right: Any = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=1 / 8)
        down: Any = cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=1 / 8)
        slopes = (right * _X, right * _Y, right, down * _X, down * _Y, down)
        self._slopes = np.stack([slope[_CLEAR].ravel() for slope in slopes])  # [6, clear pixels]
        self._query = smooth[_CLEAR].ravel()

    def refined(self, evaluation: Samples, start: Placement) -> Placement:
        """The placement nearby at which the two agree best. 40 us a step, of up to 12.

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
            if not is_plausible(placement) or _reach_px(step) < _SETTLED_PX:
                break
        return placement

    def _step(self, evaluation: Samples, placement: Placement) -> npt.NDArray[np.float64] | None:
        there = placed(evaluation, placement, _OUTSIDE)[_CLEAR].ravel()
        residual = there - self._query
        seen = np.abs(residual) < _MOST_RESIDUAL
        weights = np.where(seen, 1 / (1 + np.square(residual / _RESIDUAL_SCALE)), np.float32(0))
        weighted = self._slopes * weights
        curvature = (weighted @ self._slopes.T).astype(np.float64)
        curvature.flat[::7] += np.trace(curvature) / 6 * _DAMPING
        try:
            return np.linalg.solve(curvature, weighted @ np.where(seen, residual, np.float32(0)))
        except np.linalg.LinAlgError:  # nothing is seen, or all is flat
            return None


def is_plausible(placement: Placement) -> bool:
    """Whether the query is about as large as in the index's variants, and hardly turned."""
    along, across = np.abs(np.diagonal(placement) - 0.95), np.abs(placement[[0, 1], [1, 0]])
    return bool(np.isfinite(placement).all() and (along < 0.5).all() and (across < 0.25).all())


def _composed(placement: Placement, step: npt.NDArray[np.float64]) -> Placement:
    """The placement after the inverse of a step on the query's side."""
    whole, moved = np.eye(3), np.eye(3)
    whole[:2] = placement
    moved[:2] += step.reshape(2, 3)
    if abs(np.linalg.det(moved)) < 0.1:
        return np.full((2, 3), np.nan, np.float32)
    composed: Placement = (whole @ np.linalg.inv(moved))[:2].astype(np.float32)
    return composed


def _reach_px(step: npt.NDArray[np.float64]) -> float:
    """How far a step moves the farthest pixel, about."""
    scales, shifts = step[[0, 1, 3, 4]], step[[2, 5]]
    return float(np.abs(shifts).sum() + SIDE_PX / 2 * np.abs(scales).sum())
