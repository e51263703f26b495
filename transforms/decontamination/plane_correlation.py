"""How far two planes agree around each pixel, summed up by cells of 16 pixels a side."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from alignset.transforms.columns.kernels import allocating_kernel, summing_kernel
from alignset.transforms.decontamination.copy_planes import SIDE_PX
from alignset.transforms.decontamination.plane_placement import (
    OUTSIDE,
    Placement,
    Samples,
    is_plausible,
    place,
)

Cells = npt.NDArray[np.float64]  # [3, 4, 4]

CELLS = 4  # by so many a side
_MAPS = 6  # inside, query, evaluation, their squares, their product
_LEAST_INSIDE = 0.6  # of a window's pixels
_LEAST_SHARE = 1e-3
LEAST_OVERLAP = 0.4  # of the query's plane; of less the correlations are chance


@allocating_kernel
def correlated_cells(
    query: Samples,
    evaluation: Samples,
    inside: Samples,
    window_px: int,
    least_contrast: float,
    agrees: float,
) -> Cells:
    """The correlation of two planes around each pixel, over the pixels that are inside.

    Windows reach beyond the planes' edges, where the outermost pixels go on. Where both planes are
    flat the correlation is near zero. Takes 40 us.

    Args:
      query, evaluation: float32[64, 64], in grey levels, best around 0.
      inside: float32[64, 64], 1 where there is a pixel of both, else 0.
      window_px: odd. least_contrast: grey levels below which a window counts as flat.
      agrees: the correlation from which on a pixel agrees.

    Returns:
      float64[3, 4, 4]: in each cell how many pixels are textured, the sum of their correlations,
      and how many of them agree.
    """
    half = window_px // 2
    sums = np.zeros((SIDE_PX, _MAPS, SIDE_PX), np.float32)
    line = np.zeros((_MAPS, SIDE_PX + 2 * half), np.float32)
    for y in range(SIDE_PX):
        _fill_line(query[y], evaluation[y], inside[y], half, line)
        _slide(line, window_px, sums[y])
    cells = np.zeros((3, CELLS, CELLS), np.float64)
    column = np.zeros((_MAPS, SIDE_PX), np.float32)
    for at in range(-half, half + 1):
        _add(sums[max(at, 0)], 1.0, column)
    for y in range(SIDE_PX):
        if y:  # the window moves down by a row
            _add(sums[min(y + half, SIDE_PX - 1)], 1.0, column)
            _add(sums[max(y - half - 1, 0)], -1.0, column)
        _judge_row(column, window_px, least_contrast, agrees, cells[:, y * CELLS // SIDE_PX])
    return cells


@summing_kernel
def _fill_line(
    query: Samples, evaluation: Samples, inside: Samples, half: int, line: Samples
) -> None:
    for x in range(SIDE_PX):
        i, q, e = inside[x], query[x], evaluation[x]
        line[0, half + x] = i
        line[1, half + x] = q * i
        line[2, half + x] = e * i
        line[3, half + x] = q * q * i
        line[4, half + x] = e * e * i
        line[5, half + x] = q * e * i
    for number in range(_MAPS):
        for x in range(half):
            line[number, x] = line[number, half]
            line[number, half + SIDE_PX + x] = line[number, half + SIDE_PX - 1]


@summing_kernel
def _slide(line: Samples, window_px: int, sums: Samples) -> None:
    for number in range(_MAPS):
        for shift in range(window_px):
            for x in range(SIDE_PX):
                sums[number, x] += line[number, shift + x]


@summing_kernel
def _add(row: Samples, times: float, total: Samples) -> None:
    factor = np.float32(times)
    for number in range(_MAPS):
        for x in range(SIDE_PX):
            total[number, x] += factor * row[number, x]


@summing_kernel
def _judge_row(
    sums: Samples, window_px: int, least_contrast: float, agrees: float, cells: Cells
) -> None:
    """Adds a row's pixels to its cells, float64[3, 4]."""
    floor = np.float32(least_contrast**4 / 4)  # so that what is hardly there does not correlate
    least = np.float32(least_contrast**2)
    bound = np.float32(agrees)
    side = SIDE_PX // CELLS
    area = np.float32(1) / np.float32(window_px * window_px)
    for cell in range(CELLS):
        textured = total = agreeing = np.float32(0)
        for x in range(cell * side, (cell + 1) * side):
            share = sums[0, x] * area
            scale = area / max(share, np.float32(_LEAST_SHARE))
            mean_query, mean_evaluation = sums[1, x] * scale, sums[2, x] * scale
            spread_query = sums[3, x] * scale - mean_query * mean_query
            spread_evaluation = sums[4, x] * scale - mean_evaluation * mean_evaluation
            shared = sums[5, x] * scale - mean_query * mean_evaluation
            product = max(spread_query, np.float32(0)) * max(spread_evaluation, np.float32(0))
            correlation = shared / np.sqrt(product + floor)
            contrast = max(spread_query, spread_evaluation)
            counts = np.float32(contrast > least) * np.float32(share > _LEAST_INSIDE)
            textured += counts
            total += counts * correlation
            agreeing += counts * np.float32(correlation > bound)
        cells[0, cell] += textured
        cells[1, cell] += total
        cells[2, cell] += agreeing


@allocating_kernel
def agreement_of(query: Samples, evaluation: Samples, placement: Placement) -> float:
    """The correlation of two planes' detail where one lies on the other; -1 where that is too
    little of it."""
    if not is_plausible(placement):
        return -1.0
    side = len(query)
    there = np.empty((side, side), np.float32)
    place(evaluation, placement, there)
    count, shared, own, other = 0, 0.0, 1e-6, 1e-6
    for y in range(side):
        for x in range(side):
            if there[y, x] < OUTSIDE:
                count += 1
                shared += query[y, x] * there[y, x]
                own += query[y, x] * query[y, x]
                other += there[y, x] * there[y, x]
    if count < LEAST_OVERLAP * side * side:
        return -1.0
    return shared / np.sqrt(own * other)
