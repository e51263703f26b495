"""Where one small thumbnail lies on another, and the other's samples at its pixels.

A placement is an affine map, float64[2, 3], from pixels of the query's thumbnail to pixels of the
evaluation image's: `evaluation(placement @ (x, y, 1)) = query(x, y)`. All of this works on
thumbnails of any side; a placement on thumbnails of half the side is `halved`.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from alignset.transforms.columns.kernels import allocating_kernel, kernel, summing_kernel

Samples = npt.NDArray[np.float32]  # [side, side]
Row = npt.NDArray[np.float32]
Placement = npt.NDArray[np.float64]  # [2, 3]
Places = tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]

LEAST_OVERLAP = 0.4  # of the query's thumbnail; of less the correlations are chance
OUTSIDE = 1e3  # no sample has it: it marks pixels beyond the evaluation image's thumbnail
HALF_PX = 32  # at which sizes and shifts are tried: as near as Lucas-Kanade needs
# Sides of the query in the evaluation image's thumbnail that are tried: above 32 it has a border or
# bars that were not trimmed, 22 is a crop to 70 %. Lucas-Kanade closes gaps of 10 %.
_SIDES_PX = (38, 35, 32, 29, 27, 25, 22, 20)
_MARGIN = 0.12  # of a side, not matched; rotation and banners change the margins most
_ROOM_PX = 4  # for shifts of what is larger than the thumbnail
_LEAST_ENERGY = 1.0  # of a window's detail: less is flat


def placement_of(size: float, x_px: float, y_px: float) -> Placement:
    """A query scaled by `size` whose left upper corner is at (x_px, y_px)."""
    centre = (size - 1) / 2  # pixels are squares around their coordinates
    return np.array([[size, 0, x_px + centre], [0, size, y_px + centre]], np.float64)


def halved(placement: Placement) -> Placement:
    """The same placement on thumbnails of half the side, whose pixels are four of these."""
    half = placement.copy()
    half[:, 2] = (placement[:, 2] + placement[:, :2].sum(1) * 0.5 - 0.5) / 2
    return half


def doubled(placement: Placement) -> Placement:
    """The same placement on thumbnails of twice the side."""
    twice = placement.copy()
    twice[:, 2] = placement[:, 2] * 2 - placement[:, :2].sum(1) * 0.5 + 0.5
    return twice


@allocating_kernel
def place(samples: Samples, placement: Placement, there: Samples) -> None:
    """Writes the evaluation image's samples at the query's pixels; OUTSIDE beyond its thumbnail."""
    places = places_of(len(there))
    for y in range(len(there)):
        place_row(samples, placement, y, places, there[y])


@allocating_kernel
def place_inside(samples: Samples, placement: Placement, there: Samples, inside: Samples) -> float:
    """The same with 0 beyond its thumbnail. `inside` becomes 1 within it, else 0.

    Returns:
      The share of the query's pixels that are within it.
    """
    count = 0
    place(samples, placement, there)
    for y in range(len(there)):
        for x in range(len(there)):
            within = there[y, x] < OUTSIDE
            count += within
            inside[y, x] = np.float32(within)
            there[y, x] = there[y, x] if within else np.float32(0)
    return count / (len(there) * len(there))


@allocating_kernel
def places_of(side: int) -> Places:
    """Room for what `place_row` knows of each pixel of a row."""
    return np.empty((2, side), np.int32), np.empty((7, side), np.float32)


@summing_kernel
def place_row(samples: Samples, placement: Placement, y: int, places: Places, row: Row) -> None:
    """Writes one row of the query's pixels, by linear interpolation.

    Samples are fetched one by one. The steps before and after are computed for several at once, so
    that a row takes half the time.
    """
    corners, parts = places
    most, before_last = np.float32(len(samples) - 1), np.int32(len(samples) - 2)
    xx, yx = np.float32(placement[0, 0]), np.float32(placement[1, 0])
    x0 = np.float32(placement[0, 1] * y + placement[0, 2])
    y0 = np.float32(placement[1, 1] * y + placement[1, 2])
    beyond, none = np.float32(OUTSIDE), np.float32(0)
    for x in range(len(row)):
        at_x = xx * np.float32(x) + x0
        at_y = yx * np.float32(x) + y0
        near_x = min(max(at_x, none), most)
        near_y = min(max(at_y, none), most)
        left = min(np.int32(near_x), before_last)
        top = min(np.int32(near_y), before_last)
        corners[0, x], corners[1, x] = left, top
        parts[0, x], parts[1, x] = near_x - np.float32(left), near_y - np.float32(top)
        parts[2, x] = np.float32(near_x == at_x) * np.float32(near_y == at_y)
    for x in range(len(row)):
        # Without a sign no index is taken for one that counts from the end.
        column, line = np.uintp(corners[0, x]), np.uintp(corners[1, x])
        next_column, next_line = column + np.uintp(1), line + np.uintp(1)
        parts[3, x], parts[4, x] = samples[line, column], samples[line, next_column]
        parts[5, x], parts[6, x] = samples[next_line, column], samples[next_line, next_column]
    for x in range(len(row)):
        across, down = parts[0, x], parts[1, x]
        upper = parts[3, x] + (parts[4, x] - parts[3, x]) * across
        lower = parts[5, x] + (parts[6, x] - parts[5, x]) * across
        row[x] = upper + (lower - upper) * down if parts[2, x] > none else beyond


@kernel
def is_plausible(placement: Placement) -> bool:
    """Whether the query is about as large as in the index's variants, and hardly turned."""
    # What is not a number is in no range: each is compared, since `max` may leave it out.
    for axis in range(2):
        turn, shift = abs(placement[axis, 1 - axis]), abs(placement[axis, 2])
        if not (0.45 < placement[axis, axis] < 1.45 and turn < 0.25 and shift < 128):
            return False
    return True


@allocating_kernel
def agreement_of(query: Samples, evaluation: Samples, placement: Placement) -> float:
    """The correlation of two thumbnails' detail where one lies on the other; -1 where that is too
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


def best_match(query: Samples, evaluation: Samples) -> tuple[float, Placement]:
    """Where the query is found best in an evaluation image: the score, -1 to 1, and the placement.

    Args:
      query, evaluation: `normalised_detail` of their thumbnails, float32[32, 32].
    """
    sums, squares = (cv2.integral(values) for values in (evaluation, evaluation**2))
    best = -2.0, placement_of(1.0, 0.0, 0.0)
    for side in _SIDES_PX:
        margin, template = template_of(query, side)
        inner = len(template)
        total, energy = (_windows(integral, inner) for integral in (sums, squares))
        energy = np.maximum(energy - total * total / inner**2, _LEAST_ENERGY)
        scores = cv2.matchTemplate(evaluation, template, cv2.TM_CCORR) / np.sqrt(energy)
        y, x = divmod(int(scores.argmax()), scores.shape[1])
        if scores[y, x] > best[0]:
            placement = placement_of(side / HALF_PX, x - margin, y - margin)
            best = float(scores[y, x]), placement
    return best


def template_of(query: Samples, side: int) -> tuple[int, Samples]:
    """How wide the margin of the query is at this size, and what is within it, of mean 0 and
    length 1, or 0."""
    margin = round(side * _MARGIN)
    if side > HALF_PX:
        margin = max(margin, (side - HALF_PX + _ROOM_PX) // 2)
    how = cv2.INTER_LINEAR if side > HALF_PX else cv2.INTER_AREA
    middle = cv2.resize(query, (side, side), interpolation=how)[margin:-margin, margin:-margin]
    middle = middle - middle.sum() / middle.size  # as `mean`, in half its time
    return margin, middle / np.float32(np.sqrt(max((middle * middle).sum(), _LEAST_ENERGY)))


def _windows(integral: np.ndarray, side: int) -> np.ndarray:
    """The sum over each window of so many px a side."""
    lines = integral[side:] - integral[:-side]
    return np.asarray(lines[:, side:] - lines[:, :-side])
