"""Whether one small thumbnail is a copy of another, by its fine detail: coarse light and shade is
alike in many images.

1. A thumbnail with too few corners cannot be aligned, and is not compared here.
2. The detail at half the side is aligned from where the index's variant lies; a pair whose detail
   hardly correlates there is refused.
3. The thumbnails are compared where the variant says, unless its detail does not lie there, and
   where the whole detail is aligned to, unless the former is good enough; the better counts.
4. To compare is to correlate the surroundings of each pixel, of the thumbnail and of its fine band,
   over the textured pixels of the best of five regions.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from alignset.transforms.decontamination.copy_thumbnails import SIDE_PX, Thumbnail

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


_LOCAL_PX = 5.0  # of the local contrast of a thumbnail
_HALF_PX = 32  # of a side: coarse enough that a tenth of it is found
_HALF_STEPS, _STEPS = 6, 3
# The detail is aligned while it is smooth, so that a variant's start is near enough; then fine.
_HALF_BLUR_PX, _BLUR_PX = 2.0, 0.7
# Correlation of the detail of half the side below which the pair is not compared any further.
_LEAST_AGREEMENT = 0.45
# The same by the index's variant, unmoved. Below it the image does not lie where that says.
_LEAST_UNMOVED_AGREEMENT = 0.4
_GOOD_CORRELATION = 0.95  # of both scales where the index's variant says, not to align at all
# Windows within which the thumbnails are correlated, and the contrast in grey levels below which
# one counts as flat: of the thumbnail as it is, and of its fine band.
_COARSE_WINDOW_PX, _COARSE_CONTRAST = 13, 4.0
_FINE_WINDOW_PX, _FINE_CONTRAST = 11, 2.0
_FINE_BAND_PX = 2.5  # what is smoother is taken away
_COARSE_AGREES, _FINE_AGREES = 0.75, 0.6
# Around each pixel, and from which on it is a corner's: cv2's eigenvalue of a thumbnail in grey
# levels.
_CORNER_PX, _LEAST_CORNER_STRENGTH = 5, 4.0
LEAST_CORNERS = 0.1  # share of a thumbnail; with less it cannot be aligned
_LEAST_PIXELS = np.array([80, 40])  # that are textured, of both scales
# A banner may lie over one side: all, and all but a quarter at each side.
_REGIONS = ((0, 4, 0, 4), (0, 3, 0, 4), (1, 4, 0, 4), (0, 4, 0, 3), (0, 4, 1, 4))  # of cells
_WINDOW = np.ones((7, 7), np.uint8)
CELLS = 4  # of a thumbnail, a side
_LEAST_INSIDE = 0.6  # of a window's pixels
_LEAST_SHARE = 1e-3


class PairCheck(NamedTuple):
    """How far a query's thumbnail agrees with an evaluation image's, where it lies on it.

    Shares are of the pixels of the best of five regions. A correlation compares the surroundings of
    one pixel in both thumbnails; the mean is over textured ones.

    Attributes:
      corners: the share of a thumbnail that lies around corners, the smaller of both thumbnails';
        of the query's alone where the pair was not compared.
      plain: the largest share of one tone in either thumbnail.
      overlap: the share of the query's thumbnail that lies within the other.
      coarse_textured, coarse_correlation, coarse_agreeing: the share that is textured, its mean
        correlation, and the share of it with a correlation of at least 0.75.
      fine_textured, fine_correlation, fine_agreeing: the same of the fine band, and of 0.6.
    """

    corners: float = 0.0
    plain: float = 0.0
    overlap: float = 0.0
    coarse_textured: float = 0.0
    coarse_correlation: float = 0.0
    coarse_agreeing: float = 0.0
    fine_textured: float = 0.0
    fine_correlation: float = 0.0
    fine_agreeing: float = 0.0

    @property
    def agreement(self) -> float:
        """By which alignments are ranked."""
        return self.coarse_correlation + self.fine_correlation


UNLIKE = PairCheck()
Cells = npt.NDArray[np.float64]  # [3, 4, 4]


def share_around_corners(grey: Samples) -> float:
    """The share of a thumbnail, float32[64, 64] in grey levels, that its surroundings fix in place.

    Along an edge, a line or a large circle they don't, so that thumbnails of nothing else can be
    laid on each other whatever they show. Source: Shi and Tomasi (1994), "Good Features to Track".
    """
    strengths = cv2.cornerMinEigenVal(grey, _CORNER_PX, ksize=3)
    return round(np.count_nonzero(strengths > _LEAST_CORNER_STRENGTH) / strengths.size, 4)


def share_of_one_tone(thumbnail: Thumbnail) -> float:
    """The largest share of a thumbnail's pixels that are within 12 grey levels: 0.1 to 0.3 of most
    photographs, and more of drawings, charts and screenshots."""
    counts = np.bincount(thumbnail.ravel() >> 2, minlength=SIDE_PX)
    together = counts[:-2] + counts[1:-1] + counts[2:]
    return round(float(together.max()) / thumbnail.size, 4)


class Query:
    """A thumbnail to be checked against several: what is computed of it alone is computed once."""

    def __init__(self, thumbnail: Thumbnail) -> None:
        self.thumbnail, self._grey = thumbnail, _grey(thumbnail)
        self._corners = share_around_corners(self._grey)
        self._half = _half_detail(thumbnail)
        self._smooth = blurred(self._half, _HALF_BLUR_PX)

    def check(self, evaluation: Thumbnail, start: Placement) -> PairCheck:
        """How far the thumbnail agrees with an evaluation image's.

        Args:
          evaluation: uint8[64, 64], mirrored where that is what the query may be a copy of.
          start: where the query lies on it, by the index's variant.
        """
        refused = UNLIKE._replace(corners=self._corners)
        if self._corners < LEAST_CORNERS:
            return refused
        half, near = _half_detail(evaluation), resized(start, 0.5)
        agreement = unmoved = agreement_of(self._half, half, near)
        found = aligned(self._smooth, blurred(half, _HALF_BLUR_PX), near, _HALF_STEPS)
        if found is not None:
            agreement = agreement_of(self._half, half, found)
            agreement, near = max((agreement, found), (unmoved, near), key=lambda of: of[0])
        if agreement < _LEAST_AGREEMENT:
            return refused
        grey, check = _grey(evaluation), UNLIKE
        corners = min(self._corners, share_around_corners(grey))
        if corners < LEAST_CORNERS:
            return UNLIKE._replace(corners=corners)
        # Under a banner or a logo the image lies where it lay, and an alignment may be misled.
        if unmoved > _LEAST_UNMOVED_AGREEMENT:
            check = self._compared(grey, start)
        if min(check.coarse_correlation, check.fine_correlation) < _GOOD_CORRELATION:
            near = resized(near, 2)
            found = aligned(self._detail, _detail(evaluation), near, _STEPS)
            moved = self._compared(grey, near if found is None else found)
            if moved.agreement > check.agreement:
                check = moved
        plain = max(share_of_one_tone(of) for of in (self.thumbnail, evaluation))
        return check._replace(corners=corners, plain=plain)

    @cached_property
    def _detail(self) -> Samples:
        return _detail(self.thumbnail)

    @cached_property
    def _fine(self) -> Samples:
        return self._grey - blurred(self._grey, _FINE_BAND_PX)

    def _compared(self, evaluation: Samples, placement: Placement) -> PairCheck:
        there, inside = place(evaluation, placement)
        overlap = float(inside.mean())
        if overlap < LEAST_OVERLAP:
            return UNLIKE
        coarse = correlated_cells(
            self._grey, there, inside, _COARSE_WINDOW_PX, _COARSE_CONTRAST, _COARSE_AGREES
        )
        # The band is blurred across the edge of the overlap.
        clear = np.asarray(cv2.erode(inside, _WINDOW), np.float32)
        fine_there = there - blurred(there, _FINE_BAND_PX)
        fine = correlated_cells(
            self._fine, fine_there, clear, _FINE_WINDOW_PX, _FINE_CONTRAST, _FINE_AGREES
        )
        numbers = [round(number, 4) for number in _best_region(coarse, fine)]
        return PairCheck(0.0, 0.0, round(overlap, 4), *numbers)


def _grey(thumbnail: Thumbnail) -> Samples:
    """Around 0."""
    return blurred(np.asarray(thumbnail, np.float32) - np.float32(128), 0.8)


def _detail(thumbnail: Thumbnail) -> Samples:
    return blurred(normalised_detail(thumbnail, _LOCAL_PX), _BLUR_PX)


def _half_detail(thumbnail: Thumbnail) -> Samples:
    """`normalised_detail` of a thumbnail of half the side."""
    small = cv2.resize(thumbnail, (_HALF_PX, _HALF_PX), interpolation=cv2.INTER_AREA)
    return normalised_detail(np.asarray(small, np.uint8), _LOCAL_PX / 2)


def correlated_cells(
    query: Samples,
    evaluation: Samples,
    inside: Samples,
    window_px: int,
    least_contrast: float,
    agrees: float,
) -> Cells:
    """The correlation of two thumbnails around each pixel, over the pixels that are inside.

    Windows reach beyond the thumbnails' edges, where the outermost pixels repeat. Where both
    thumbnails are flat the correlation is near zero.

    Args:
      query, evaluation: float32[64, 64], in grey levels, best around 0.
      inside: float32[64, 64], 1 where there is a pixel of both, else 0.
      window_px: odd. least_contrast: grey levels below which a window counts as flat.
      agrees: the correlation from which on a pixel agrees.

    Returns:
      float64[3, 4, 4]: in each cell how many pixels are textured, the sum of their correlations,
      and how many of them agree.
    """
    own, other = query * inside, evaluation * inside
    maps = cv2.merge([inside, own, other, own * query, other * evaluation, own * evaluation])
    window = (window_px, window_px)
    means = cv2.split(cv2.boxFilter(maps, -1, window, borderType=cv2.BORDER_REPLICATE))
    share, (mean, other_mean, square, other_square, product) = means[0], means[1:]
    scale = 1 / np.maximum(share, np.float32(_LEAST_SHARE))
    mean, other_mean = mean * scale, other_mean * scale
    spread, other_spread = square * scale - mean**2, other_square * scale - other_mean**2
    # So that what is hardly there does not correlate.
    floor = np.float32(least_contrast**4 / 4)
    spreads = np.maximum(spread, 0) * np.maximum(other_spread, 0)
    correlation = (product * scale - mean * other_mean) / np.sqrt(spreads + floor)
    textured = np.maximum(spread, other_spread) > least_contrast**2
    textured &= share > _LEAST_INSIDE
    pixels = np.stack([textured, textured * correlation, textured & (correlation > agrees)])
    side = SIDE_PX // CELLS
    cells: Cells = pixels.reshape(3, CELLS, side, CELLS, side).sum(axis=(2, 4), dtype=np.float64)
    return cells


def _best_region(coarse: Cells, fine: Cells) -> list[float]:
    """The textured share, the mean correlation and the agreeing share of the coarse detail, and the
    same of the fine, of the region of the cells that agrees best."""
    cells = np.stack([coarse, fine])
    regions = [cells[..., top:bottom, left:right] for top, bottom, left, right in _REGIONS]
    sums = np.array([region.sum(axis=(2, 3)) for region in regions])
    textured, total, agreeing = sums.transpose(2, 0, 1)
    counts = np.where(textured > _LEAST_PIXELS, textured, np.inf)
    means = total / counts
    best = means.sum(axis=1).argmax()
    pixels = regions[best][0, 0].size * (SIDE_PX // CELLS) ** 2
    shares = np.stack([textured / pixels, means, agreeing / counts], axis=2)
    return list(shares[best].ravel().tolist())
