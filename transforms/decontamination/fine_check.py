"""Whether two images agree in what only a thumbnail of 128 px shows: words, thin lines, small
parts.

Two class diagrams of one generator have the same boxes and lines. At 64 px nothing else of them is
seen; at 128 px the blocks with their words disagree.
"""

from __future__ import annotations

from functools import cached_property
from itertools import product

import cv2
import numpy as np
import numpy.typing as npt

from alignset.transforms.decontamination.copy_planes import FINE_PX, Plane
from alignset.transforms.decontamination.plane_alignment import Aligner, blurred, normalised_detail
from alignset.transforms.decontamination.plane_placement import (
    LEAST_OVERLAP,
    Placement,
    Samples,
    doubled,
    is_plausible,
    place_inside,
)

Flags = npt.NDArray[np.bool_]  # [..., 16, 16]

BLOCKS = 16  # a side
_LOCAL_PX, _STEPS = 5.0, 6  # of the alignment
_BAND_PX = 1.5  # what is smoother is taken away
# The evaluation image is blurred as the other may be, and the best counts.
_BLURS_PX = (0.0, 0.6, 1.0)
_SHIFTS = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1))  # of a block, px
_LEAST_CONTRAST = (
    3.0  # grey levels of the band; a block with less in either thumbnail tells nothing
)
_LEAST_INSIDE = 0.9  # of a block's pixels
_LEAST_BLOCKS = 6  # that tell
_AGREES = 0.5  # the correlation of a block


def _regions() -> Flags:
    """bool[7, 16, 16]: all blocks; all but the upper or lower quarter, as under a banner; all but a
    corner, as under a logo."""
    regions = np.ones((7, BLOCKS, BLOCKS), np.bool_)
    low, high = slice(0, BLOCKS // 4), slice(BLOCKS - BLOCKS // 4, BLOCKS)
    hidden = product((low, high), (slice(0, BLOCKS), low, high))
    for region, (rows, columns) in zip(regions[1:], hidden, strict=True):
        region[rows, columns] = False
    return regions


_REGIONS = _regions()


class FineQuery:
    """A fine thumbnail to be compared with several.

    Args:
      plane: uint8[128, 128].
    """

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    def agreeing(self, evaluation: Plane, placement: Placement) -> float | None:
        """The share of the blocks with detail in both thumbnails that agree; None where hardly any
        block has. The largest over several regions and blurs. Takes 2 ms.

        Args:
          evaluation: uint8[128, 128], mirrored where that is what the query may be a copy of.
          placement: where the query lies on it, of thumbnails of 64 px.
        """
        there = self._there(evaluation, doubled(placement))
        if there is None:
            return None
        samples, inside = there
        clear = _means(inside) > _LEAST_INSIDE
        shares = [
            share
            for blur in _BLURS_PX
            for share in self._shares(blurred(samples, blur) if blur else samples, clear)
        ]
        return round(max(shares), 4) if shares else None

    def _there(self, evaluation: Plane, start: Placement) -> tuple[Samples, Samples] | None:
        """The evaluation image's samples at the query's pixels, and where there are any: where it
        lies already, or where it is aligned, whichever agrees better."""
        detail = blurred(normalised_detail(evaluation, _LOCAL_PX), 1.0)
        grey = np.asarray(evaluation, np.float32)
        best, best_agreement = None, -2.0
        for placement in (start, self._aligner.refined(detail, start, _STEPS)):
            there, inside = np.empty_like(grey), np.empty_like(grey)
            if not is_plausible(placement):
                continue
            if place_inside(grey, placement, there, inside) < LEAST_OVERLAP:
                continue
            there = np.where(inside > 0, there, self._grey)
            agreement = _correlation(self._band * inside, _band(there) * inside)
            if agreement > best_agreement:
                best, best_agreement = (there, inside), agreement
        return best

    def _shares(self, there: Samples, clear: Flags) -> list[float]:
        """The share of blocks that agree, of each region in which enough of them tell."""
        band = _band(there)
        energy = _means(band * band)
        tells = clear & (np.minimum(energy, self._energies[4]) > _LEAST_CONTRAST**2)
        correlations = [
            _means(shifted * band) / np.sqrt(own * energy + 1)
            for shifted, own in zip(self._shifted, self._energies, strict=True)
        ]
        agrees = np.max(correlations, axis=0) >= _AGREES
        counts = (tells & _REGIONS).sum(axis=(1, 2))
        shares = (agrees & tells & _REGIONS).sum(axis=(1, 2)) / np.maximum(counts, 1)
        return list(shares[counts >= _LEAST_BLOCKS].tolist())

    @cached_property
    def _grey(self) -> Samples:
        return np.asarray(self._plane, np.float32)

    @cached_property
    def _aligner(self) -> Aligner:
        return Aligner(normalised_detail(self._plane, _LOCAL_PX))

    @cached_property
    def _band(self) -> Samples:
        return _band(self._grey)

    @cached_property
    def _shifted(self) -> list[Samples]:
        """The band at each shift; the fifth is not shifted."""
        wide = np.pad(self._band, 1, mode="reflect")
        return [wide[1 + y : 1 + y + FINE_PX, 1 + x : 1 + x + FINE_PX] for y, x in _SHIFTS]

    @cached_property
    def _energies(self) -> list[Samples]:
        return [_means(band * band) for band in self._shifted]


def _band(samples: Samples) -> Samples:
    return samples - blurred(samples, _BAND_PX)


def _means(samples: Samples) -> Samples:
    """The correlation of each block: float32[16, 16]."""
    made = cv2.resize(samples, (BLOCKS, BLOCKS), interpolation=cv2.INTER_AREA)
    return np.asarray(made, np.float32)


def _correlation(one: Samples, other: Samples) -> float:
    products = float((one * one).sum()) * float((other * other).sum())
    return float((one * other).sum()) / float(np.sqrt(products + 1e-3))
