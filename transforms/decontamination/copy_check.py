"""Whether one small plane is a copy of another: aligned, then compared place by place.

What is compared is the fine detail, since coarse light and shade is alike in many pictures.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from transforms.decontamination.copy_planes import SIDE_PX, Plane
from transforms.decontamination.plane_alignment import (
    Aligner,
    Placement,
    Samples,
    blurred,
    coarse_placement,
    is_plausible,
    normalised_detail,
    placed,
)

Mask = npt.NDArray[np.bool_]

_LEAST_OVERLAP = 0.4  # of the query's plane; of less the correlations are chance
# Windows within which the planes are correlated, and the contrast in grey levels below which one
# counts as flat: of the plane as it is, and of its fine band.
_COARSE_WINDOW_PX, _COARSE_CONTRAST = 13, 4.0
_FINE_WINDOW_PX, _FINE_CONTRAST = 11, 2.0
_FINE_BAND_PX = 2.5  # what is smoother is taken away
_COARSE_AGREES, _FINE_AGREES = 0.75, 0.6
_LEAST_COARSE_PIXELS, _LEAST_FINE_PIXELS = 80, 40
# A banner may lie over one side: all, and all but a quarter at each side.
_CELLS = 4  # by so many cells a side regions are summed up
_REGIONS = (np.s_[:, :], np.s_[:-1], np.s_[1:], np.s_[:, :-1], np.s_[:, 1:])
_GOOD_COARSE, _GOOD_FINE = 0.8, 0.6  # mean correlations beyond which no other start is tried
_ALL = np.ones((SIDE_PX, SIDE_PX), np.float32)
_WINDOW = np.ones((7, 7), np.uint8)


class PairCheck(NamedTuple):
    """How far a query's plane agrees with an evaluation image's, where it lies on it.

    Shares are of the pixels of the best of five regions. A correlation is that of the surroundings
    of one pixel in both planes; the mean is over textured ones.

    Attributes:
      plain: the largest share of one tone in either plane.
      overlap: the share of the query's plane that lies within the other.
      coarse_textured, coarse_correlation, coarse_agreeing: the share that is textured, its mean
        correlation, and the share of it with a correlation of at least 0.75.
      fine_textured, fine_correlation, fine_agreeing: the same of the fine band, and of 0.6.
    """

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


def share_of_one_tone(plane: Plane) -> float:
    """The largest share of a plane's pixels that are within 12 grey levels: 0.1 to 0.3 of most
    photographs, and more of drawings, charts and screenshots."""
    counts = np.bincount(plane.ravel() >> 2, minlength=SIDE_PX)
    together = counts[:-2] + counts[1:-1] + counts[2:]
    return round(float(together.max()) / plane.size, 4)


class Query:
    """A plane to be checked against several: what is computed of it alone is computed once."""

    def __init__(self, plane: Plane) -> None:
        self.detail = normalised_detail(plane)
        self._plain = share_of_one_tone(plane)
        self._grey = blurred(plane.astype(np.float32), 0.8)
        self._fine = self._grey - blurred(self._grey, _FINE_BAND_PX)
        self._aligner = Aligner(self.detail)

    def check(self, evaluation: Plane, start: Placement) -> PairCheck:
        """How far the plane agrees with an evaluation image's. Takes up to 2 ms.

        Args:
          evaluation: uint8[64, 64], mirrored where that is what the query may be a copy of.
          start: where the query lies on it, by the index's variant.
        """
        detail = normalised_detail(evaluation)
        smooth = blurred(detail, 1.0)
        grey = blurred(evaluation.astype(np.float32), 0.8)
        found = self._compared(grey, self._aligner.refined(smooth, start))
        if found.coarse_correlation > _GOOD_COARSE and found.fine_correlation > _GOOD_FINE:
            return self._with_tones(found, evaluation)
        coarse = coarse_placement(self.detail, detail)
        other = self._compared(grey, self._aligner.refined(smooth, coarse))
        best = max(found, other, key=lambda check: check.agreement)
        return self._with_tones(best, evaluation)

    def _with_tones(self, check: PairCheck, evaluation: Plane) -> PairCheck:
        return check._replace(plain=max(self._plain, share_of_one_tone(evaluation)))

    def _compared(self, evaluation: Samples, placement: Placement) -> PairCheck:
        if not is_plausible(placement):
            return UNLIKE
        there = placed(evaluation, placement)
        inside = (placed(_ALL, placement) > 0.99).astype(np.float32)
        overlap = float(inside.mean())
        if overlap < _LEAST_OVERLAP:
            return UNLIKE
        coarse = _correlations(self._grey, there, inside, _COARSE_WINDOW_PX, _COARSE_CONTRAST)
        fine_there = there - blurred(there, _FINE_BAND_PX)
        clear = np.asarray(
            cv2.erode(inside, _WINDOW), np.float32
        )  # the band is blurred across the edge of the overlap
        fine = _correlations(self._fine, fine_there, clear, _FINE_WINDOW_PX, _FINE_CONTRAST)
        cells = np.concatenate([_by_cell(coarse, _COARSE_AGREES), _by_cell(fine, _FINE_AGREES)])
        checks = [_of_region(cells, overlap, region) for region in _REGIONS]
        return max(checks, key=lambda check: check.agreement)


class _Correlations(NamedTuple):
    correlation: Samples
    textured: Mask


def _correlations(
    query: Samples, evaluation: Samples, inside: Samples, window_px: int, least_contrast: float
) -> _Correlations:
    """The correlation of two planes around each pixel, over the pixels that are inside.

    Where both are flat it is near zero.
    """

    def mean(samples: Samples) -> Samples:
        window = (window_px, window_px)
        boxed = cv2.boxFilter(samples, cv2.CV_32F, window, borderType=cv2.BORDER_REPLICATE)
        return np.asarray(boxed, np.float32)

    share = mean(inside)
    weight = np.maximum(share, np.float32(1e-3))
    seen_query, seen_evaluation = query * inside, evaluation * inside
    mean_query, mean_evaluation = mean(seen_query) / weight, mean(seen_evaluation) / weight
    spread_query = mean(seen_query * query) / weight - mean_query * mean_query
    spread_evaluation = (
        mean(seen_evaluation * evaluation) / weight - mean_evaluation * mean_evaluation
    )
    shared = mean(seen_query * evaluation) / weight - mean_query * mean_evaluation
    product = np.maximum(spread_query, 0) * np.maximum(spread_evaluation, 0)
    floor = np.float32(least_contrast**4 / 4)  # so that what is hardly there does not correlate
    correlation = np.asarray(shared / np.sqrt(product + floor), np.float32)
    contrast = np.maximum(spread_query, spread_evaluation)
    return _Correlations(correlation, (contrast > least_contrast**2) & (share > 0.6))


def _by_cell(found: _Correlations, agrees: float) -> npt.NDArray[np.float64]:
    """float64[3, 4, 4]: in each cell how many pixels are textured, the sum of their correlations,
    and how many of them agree."""
    textured = found.textured
    agreeing = textured & (found.correlation > agrees)
    maps = np.stack([textured, found.correlation * textured, agreeing]).astype(np.float64)
    side = SIDE_PX // _CELLS
    return maps.reshape(3, _CELLS, side, _CELLS, side).sum(axis=(2, 4))


def _of_region(
    cells: npt.NDArray[np.float64], overlap: float, region: tuple[slice, ...] | slice
) -> PairCheck:
    """The check of a part of the cells float64[6, 4, 4]: of three numbers at either scale."""
    parts = [cell[region] for cell in cells]
    pixels = parts[0].size * (SIDE_PX // _CELLS) ** 2
    textured, total, agreeing, fine_textured, fine_total, fine_agreeing = (
        float(part.sum()) for part in parts
    )
    enough, fine_enough = textured > _LEAST_COARSE_PIXELS, fine_textured > _LEAST_FINE_PIXELS
    return PairCheck(
        0.0,
        round(overlap, 4),
        round(textured / pixels, 4),
        round(total / textured, 4) if enough else 0.0,
        round(agreeing / textured, 4) if enough else 0.0,
        round(fine_textured / pixels, 4),
        round(fine_total / fine_textured, 4) if fine_enough else 0.0,
        round(fine_agreeing / fine_textured, 4) if fine_enough else 0.0,
    )
