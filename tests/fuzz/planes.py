"""Small stages of noise, edges and nothing at all, one placed on the other anyhow: the kernels of
the check for copies, with bounds checks on, against OpenCV and numpy."""

from __future__ import annotations

from random import Random

import cv2
import numpy as np

from alignset.transforms.decontamination.copy_check import Query, correlated_cells
from alignset.transforms.decontamination.plane_alignment import Aligner
from alignset.transforms.decontamination.plane_placement import (
    OUTSIDE,
    best_match,
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
    return np.array(values, np.float64).reshape(2, 3)


def _check_place(random: Random, samples: np.ndarray) -> None:
    placement = _placement(random)
    there = np.empty((SIDE_PX, SIDE_PX), np.float32)
    place(samples, placement, there)
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    if np.abs(placement).max() > 100:
        return
    at = np.einsum("ij,jyx->iyx", placement, np.stack([x, y, np.ones_like(x)]).astype(float))
    clear = ((at > 0.01) & (at < SIDE_PX - 1.01)).all(0)
    left, top = (np.clip(np.floor(v), 0, SIDE_PX - 2).astype(int) for v in at)
    across, down = at[0] - left, at[1] - top
    upper = samples[top, left] * (1 - across) + samples[top, left + 1] * across
    lower = samples[top + 1, left] * (1 - across) + samples[top + 1, left + 1] * across
    expected = upper * (1 - down) + lower * down
    assert np.abs(there - expected)[clear].max(initial=0) < 0.2
    beyond = ((at < -0.01) | (at > SIDE_PX - 0.99)).any(0)
    assert np.all(there[beyond] == OUTSIDE)


def _check_matching(query: np.ndarray, evaluation: np.ndarray) -> None:
    score, placement = best_match(query, evaluation)
    assert -1.01 < score < 1.01
    assert is_plausible(placement)


def check(random: Random) -> None:
    query, evaluation = plane_of(random), plane_of(random)
    if random.random() < 0.3:
        evaluation = query
    greys = [plane.astype(np.float32) - 128 for plane in (query, evaluation)]
    greys[0][random.randrange(SIDE_PX), random.randrange(SIDE_PX)] = random.choice(VALUES)
    _check_place(random, greys[1])
    inside = (np.random.default_rng(random.randrange(99)).random((64, 64)) < 0.9).astype("f4")
    counts, totals, agreeing = correlated_cells(*greys, inside, 11, 2.0, 0.6)
    assert np.all((agreeing >= 0) & (agreeing <= counts) & (np.abs(totals) <= 1.01 * counts + 1))
    halves = [cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA) / 30 for grey in greys]
    _check_matching(*halves)
    refined = Aligner(halves[0]).refined(halves[1], _placement(random), random.randrange(13))
    assert refined.shape == (2, 3)
    numbers = Query(query).check(evaluation, _placement(random))
    assert np.isfinite(numbers).all(), numbers
    assert 0 <= min(numbers.plain, numbers.overlap) <= max(numbers.plain, numbers.overlap) <= 1
