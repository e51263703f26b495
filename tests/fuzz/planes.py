"""Small stages of noise, edges and nothing at all, one placed on the other anyhow: what the check
for copies makes of them is finite and in its range."""

from __future__ import annotations

from random import Random

import cv2
import numpy as np

from alignset.transforms.decontamination.copy_check import Query, correlated_cells
from alignset.transforms.decontamination.copy_index import distance_of, plane_distance
from alignset.transforms.decontamination.plane_alignment import (
    agreement_of,
    aligned,
    is_plausible,
    place,
    placement_of,
)

SIDE_PX = 64
VALUES = (0.0, 1.0, -1.0, 127.0, -128.0, 1e-20, 3e3)


def plane_of(random: Random) -> np.ndarray:
    """uint8[64, 64]."""
    numbers = np.random.default_rng(random.randrange(2**32))
    kind = random.randrange(5)
    if kind == 0:
        return np.full((SIDE_PX, SIDE_PX), random.choice([0, 1, 128, 255]), np.uint8)
    if kind == 1:
        return numbers.integers(0, 256, (SIDE_PX, SIDE_PX), np.uint8)
    side = random.choice([1, 2, 3, 7, 20, 64])
    method = cv2.INTER_CUBIC if kind == 2 else cv2.INTER_NEAREST
    small = numbers.integers(0, 256, (side, side), np.uint8)
    return cv2.resize(small, (SIDE_PX, SIDE_PX), interpolation=method)


def _placement(random: Random) -> np.ndarray:
    if random.random() < 0.5:
        size = random.uniform(0.4, 1.5)
        return placement_of(size, random.uniform(-40, 40), random.uniform(-40, 40))
    values = [random.choice([0, 1, -1, 64, 1e9, -1e30, random.gauss(0, 3)]) for _ in range(6)]
    return np.array(values, np.float32).reshape(2, 3)


def check(random: Random) -> None:
    query, evaluation = plane_of(random), plane_of(random)
    if random.random() < 0.3:
        evaluation = query
    greys = [plane.astype(np.float32) - 128 for plane in (query, evaluation)]
    greys[0][random.randrange(SIDE_PX), random.randrange(SIDE_PX)] = random.choice(VALUES)
    placement = _placement(random)
    there, inside = place(greys[1], placement)
    assert set(np.unique(inside)) <= {0, 1}
    assert np.abs(there).max() <= 129
    assert -1.01 < agreement_of(*greys, placement) < 1.01
    found = aligned(*greys, placement, random.randrange(1, 13))
    assert found is None or is_plausible(found)
    inside = (np.random.default_rng(random.randrange(99)).random((64, 64)) < 0.9).astype("f4")
    counts, totals, agreeing = correlated_cells(*greys, inside, 11, 2.0, 0.6)
    assert np.all((agreeing >= 0) & (agreeing <= counts) & (np.abs(totals) <= 1.01 * counts + 1))
    numbers = Query(query).check(evaluation, placement)
    assert np.isfinite(numbers).all(), numbers
    assert 0 <= min(numbers.plain, numbers.overlap) <= max(numbers.plain, numbers.overlap) <= 1
    assert 0 <= distance_of(numbers) < 1
    assert 0 <= plane_distance(query, evaluation) < 1
