"""Where one small thumbnail lies on another: aligned by OpenCV's enhanced correlation coefficient.

A placement is an affine map, float32[2, 3], from pixels of the query's thumbnail to pixels of the
evaluation image's: `evaluation(placement @ (x, y, 1)) = query(x, y)`.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from alignset.transforms.decontamination.copy_thumbnails import Thumbnail

Samples = npt.NDArray[np.float32]  # [side, side]
Placement = npt.NDArray[np.float32]  # [2, 3]

LEAST_OVERLAP = 0.4  # of the query's thumbnail; of less the correlations are chance
_LOW_CONTRAST = 4.0  # grey levels, of the local contrast by which detail is divided
_UNCLEAR_SHARE = 1 / 20  # of a side at each edge, where blurs repeat the outermost pixels
_SETTLED = 3e-3  # a step that adds less to the correlation is the last
_HOW = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
# About as large as in the index's variants, and hardly turned.
_PLAUSIBLE = np.array([[0.95, 0, 0], [0, 0.95, 0]], np.float32)
_PLAUSIBLE_REACH = np.array([[0.5, 0.25, 128], [0.25, 0.5, 128]], np.float32)


def placement_of(size: float, x_px: float, y_px: float) -> Placement:
    """A query scaled by `size` whose left upper corner is at (x_px, y_px)."""
    centre = (size - 1) / 2  # pixels are squares around their coordinates
    return np.array([[size, 0, x_px + centre], [0, size, y_px + centre]], np.float32)


def resized(placement: Placement, factor: float) -> Placement:
    """The same placement on thumbnails of so many times the side."""
    other = placement.copy()
    centres = placement[:, :2].sum(1) - 1
    other[:, 2] = placement[:, 2] * factor + centres * np.float32((1 - factor) / 2)
    return other


def blurred(samples: Samples, sigma_px: float) -> Samples:
    return np.asarray(cv2.GaussianBlur(samples, (0, 0), sigma_px), np.float32)


def normalised_detail(thumbnail: Thumbnail, local_px: float) -> Samples:
    """Differences from the surroundings, in units of their contrast: tone and light fall out."""
    # Beyond two deviations a pixel counts too little to be worth its time.
    window = (2 * round(2 * local_px) + 1,) * 2
    smooth = cv2.GaussianBlur(np.asarray(thumbnail, np.float32), (5, 5), 0.7)
    detail = smooth - cv2.GaussianBlur(smooth, window, local_px)
    contrast = cv2.sqrt(cv2.GaussianBlur(detail * detail, window, local_px))
    return np.asarray(detail / (contrast + np.float32(_LOW_CONTRAST)), np.float32)


def is_plausible(placement: Placement) -> bool:
    """Whether a copy may lie so; False for NaN."""
    return bool((np.abs(placement - _PLAUSIBLE) < _PLAUSIBLE_REACH).all())


def aligned(
    query: Samples, evaluation: Samples, start: Placement, most_steps: int
) -> Placement | None:
    """The nearby placement at which the two correlate best, or None.

    Args:
      query, evaluation: `normalised_detail` of thumbnails, blurred.
      start: within a tenth of a side.

    Source: Evangelidis and Psarakis (2008), "Parametric Image Alignment Using Enhanced Correlation
    Coefficient Maximization".
    """
    unclear = round(len(query) * _UNCLEAR_SHARE)
    middle = query[unclear:-unclear, unclear:-unclear]
    found = start.copy()
    found[:, 2] += found[:, :2].sum(1) * unclear
    until = cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, most_steps, _SETTLED
    seen = np.ones(evaluation.shape, np.uint8)
    try:
        _, warp = cv2.findTransformECC(middle, evaluation, found, cv2.MOTION_AFFINE, until, seen, 1)
    except cv2.error:  # the correlation would fall, or nothing overlaps
        return None
    found = np.asarray(warp, np.float32)
    found[:, 2] -= found[:, :2].sum(1) * unclear
    return found if is_plausible(found) else None


def place(evaluation: Samples, placement: Placement) -> tuple[Samples, Samples]:
    """The evaluation image's samples at the query's pixels, 0 beyond its thumbnail; and 1 within
    it, else 0."""
    there, inside = (
        cv2.warpAffine(samples, placement, samples.shape, flags=_HOW)
        for samples in (evaluation, np.ones_like(evaluation))
    )
    within = np.asarray(inside > 1 - 1e-3, np.float32)
    return there * within, within


def agreement_of(query: Samples, evaluation: Samples, placement: Placement) -> float:
    """The correlation of two thumbnails' detail where one lies on the other; -1 where that is too
    little of it."""
    there, inside = place(evaluation, placement)
    if inside.mean() < LEAST_OVERLAP:
        return -1.0
    own = query * inside
    energy = (float((own * own).sum()) + 1e-6) * (float((there * there).sum()) + 1e-6)
    return float((own * there).sum()) / energy**0.5
