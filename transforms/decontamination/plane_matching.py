"""Where the middle of one small plane is found in another, over sizes and shifts.

Planes of 32 px are matched: that is as near as Lucas-Kanade needs, and an eighth of the work.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from alignset.transforms.columns.kernels import allocating_kernel, summing_kernel
from alignset.transforms.decontamination.plane_placement import Placement, Samples, placement_of

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
        if query.shape != (HALF_PX, HALF_PX):
            raise ValueError(f"templates are of planes of 32 px a side; got {query.shape}")
        self._samples = _templates(query)

    @property
    def templates(self) -> list[Samples]:
        """Each float32[side, side], of mean 0 and length 1, or 0."""
        parts = np.split(self._samples, _ENDS[1:-1])
        return [part.reshape(side, side) for part, side in zip(parts, _INNER_PX, strict=True)]

    def best(self, evaluation: Samples) -> Match:
        """Where the query is found in an evaluation image's detail, float32[32, 32]. 40 us."""
        score, number, x, y = _best(self._samples, evaluation)
        side, margin = _SIDES_PX[number], int(_MARGINS_PX[number])
        return Match(score, placement_of(side / HALF_PX, x - margin, y - margin))


def _margin_px(side: int) -> int:
    """How wide what is not matched is on each side."""
    margin = round(side * _MARGIN)
    return max(margin, (side - HALF_PX + _ROOM_PX) // 2) if side > HALF_PX else margin


def _resampling(side: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """How a line of the query becomes one of a template: the first of the up to three samples that
    each of its own is made of, and their shares. By area where it shrinks, else linear."""
    margin = _margin_px(side)
    first, shares = np.zeros(_WIDEST_PX, np.int64), np.zeros((_WIDEST_PX, 3), np.float32)
    step = HALF_PX / side
    for at, place in enumerate(range(margin, side - margin)):
        begin, end = place * step, (place + 1) * step
        if step < 1:
            centre = (begin + end) / 2 - 0.5
            begin, end = centre, centre + 1
        first[at] = min(int(begin), HALF_PX - 3)
        samples = first[at] + np.arange(3)
        covered = np.minimum(samples + 1, end) - np.maximum(samples, begin)
        shares[at] = np.maximum(covered, 0) / (end - begin)
    return first, shares


_MARGINS_PX = np.array([_margin_px(side) for side in _SIDES_PX])
_INNER_PX = np.array(_SIDES_PX) - 2 * _MARGINS_PX
_WIDEST_PX = int(_INNER_PX.max())
_ENDS = np.concatenate([[0], np.cumsum(_INNER_PX**2)])  # of templates that lie one after another
_FIRST = np.stack([_resampling(side)[0] for side in _SIDES_PX])
_SHARES = np.stack([_resampling(side)[1] for side in _SIDES_PX])


@allocating_kernel
def _templates(query: Samples) -> npt.NDArray[np.float32]:
    """The samples of all templates, one after another. 15 us."""
    made = np.empty(_ENDS[-1], np.float32)
    line = np.empty(HALF_PX, np.float32)
    for number in range(len(_INNER_PX)):
        side, first, shares = _INNER_PX[number], _FIRST[number], _SHARES[number]
        template = made[_ENDS[number] : _ENDS[number + 1]]
        for y in range(side):
            for x in range(HALF_PX):
                line[x] = np.float32(0)
                for tap in range(3):
                    line[x] += shares[y, tap] * query[first[y] + tap, x]
            for x in range(side):
                sample = np.float32(0)
                for tap in range(3):
                    sample += shares[x, tap] * line[first[x] + tap]
                template[y * side + x] = sample
        template -= template.mean()
        squares = (template * template).sum()
        template /= np.float32(np.sqrt(max(squares, LEAST_ENERGY)))
    return made


@allocating_kernel
def _best(samples: npt.NDArray[np.float32], evaluation: Samples) -> tuple[float, int, int, int]:
    """The best score, the number of its template, and where its corner lies along x and y."""
    side = len(evaluation)
    sums, squares = np.zeros((side + 1, side + 1)), np.zeros((side + 1, side + 1))
    for y in range(side):
        along, along_squares = 0.0, 0.0
        for x in range(side):
            along += evaluation[y, x]
            along_squares += evaluation[y, x] * evaluation[y, x]
            sums[y + 1, x + 1] = sums[y, x + 1] + along
            squares[y + 1, x + 1] = squares[y, x + 1] + along_squares
    best, best_number, best_x, best_y = -2.0, 0, 0, 0
    for number in range(len(_INNER_PX)):
        inner = _INNER_PX[number]
        template = samples[_ENDS[number] : _ENDS[number + 1]].reshape(inner, inner)
        score, x, y = matched(template, evaluation, sums, squares)
        if score > best:
            best, best_number, best_x, best_y = score, number, x, y
    return best, best_number, best_x, best_y


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
