import itertools
import warnings

import cv2
import numpy as np
import pytest
import torch

from alignset.transforms.decontamination.copy_planes import copy_planes
from alignset.transforms.decontamination.plane_alignment import normalised_detail
from alignset.transforms.decontamination.plane_placement import (
    HALF_PX,
    OUTSIDE,
    agreement_of,
    best_match,
    doubled,
    halved,
    is_plausible,
    place,
    place_inside,
    placement_of,
)
from tests.support.closeness import close
from tests.support.grey_pictures import degenerate_planes, grey_photograph

pytestmark = pytest.mark.numeric

LARGE = grey_photograph(5, 512, 512)
EVALUATION = normalised_detail(copy_planes(LARGE).whole, 5.0)
START = placement_of(1.0, 0.0, 0.0)


def test_a_placement_holds_for_planes_of_half_the_side():
    rng = np.random.default_rng(3)
    for _ in range(20):
        full = np.array([[1, 0, 0], [0, 1, 0]]) + rng.normal(0, 0.1, (2, 3)) * [1, 1, 50]
        assert doubled(halved(full)) == pytest.approx(full)
        x, y = rng.uniform(0, 32, 2)  # a point of the half one, and the same of the full one
        here = halved(full) @ [x, y, 1]
        assert 2 * here + 0.5 == pytest.approx(full @ [2 * x + 0.5, 2 * y + 0.5, 1])


def placed(samples: np.ndarray, placement: np.ndarray) -> np.ndarray:
    there = np.empty_like(samples)
    place(samples, placement, there)
    return there


def test_placed_by_the_identity_is_the_plane_itself():
    assert close(placed(EVALUATION, START), EVALUATION, terms=4)  # between 4 pixels
    assert (placed(EVALUATION, placement_of(1.0, 200.0, 0.0)) == OUTSIDE).all()


def test_placed_samples_are_those_between_pixels():
    y, x = np.mgrid[:64, :64].astype(np.float32)
    # None lies just on the border, where rounding would decide.
    placement = np.array([[0.9, 0.05, 3.2531], [-0.04, 0.8, 4.5031]])
    made = placed(2 * x + 5 * y, placement)
    at_x, at_y = (row @ np.stack([x, y, np.ones_like(x)]).reshape(3, -1) for row in placement)
    inside = (at_x >= 0) & (at_x <= 63) & (at_y >= 0) & (at_y <= 63)
    assert 0.5 < inside.mean() < 1
    assert close(made.ravel()[inside], (2 * at_x + 5 * at_y)[inside], terms=4 + 3)
    assert (made.ravel()[~inside] == OUTSIDE).all()
    there, within = np.empty_like(made), np.empty_like(made)
    assert place_inside(2 * x + 5 * y, placement, there, within) == inside.mean()
    assert (within.ravel() == inside).all()
    assert (there == np.where(within > 0, made, 0)).all()


@pytest.mark.parametrize(
    ("placement", "plausible"),
    [
        (START, True),
        (placement_of(0.6, 0, 0), True),
        (placement_of(0.44, 0, 0), False),
        (placement_of(1.46, 0, 0), False),
        (np.array([[1, 0.26, 0], [0, 1, 0]], np.float64), False),
    ],
)
def test_a_placement_is_plausible_where_copies_are_seen(placement, plausible):
    assert is_plausible(placement) == plausible
    for at, wrong in itertools.product(np.ndindex(2, 3), (np.nan, np.inf, -np.inf)):
        broken = placement.copy()
        broken[at] = wrong
        assert not is_plausible(broken)


def test_the_agreement_is_the_correlation_where_one_lies_on_the_other():
    here = EVALUATION[:32, :32].copy()
    moved = np.roll(here, 4, axis=1)
    for other, expected, placement in (
        (here, 1.0, START),
        (-here, -1.0, START),
        (moved, 1.0, placement_of(1.0, 4.0, 0.0)),
    ):
        agreement = agreement_of(here, other, placement)
        assert close(agreement, expected, terms=32 * 32, precision=torch.float32)
    assert agreement_of(here, moved, START) < 0.9
    assert agreement_of(here, here, placement_of(1.0, 30.0, 0.0)) == -1  # hardly an overlap


def half_detail(picture: np.ndarray) -> np.ndarray:
    small = cv2.resize(picture, (HALF_PX, HALF_PX), interpolation=cv2.INTER_AREA)
    return normalised_detail(small, 2.5)


HALF = half_detail(LARGE)


@pytest.mark.parametrize("size", [0.65, 0.72, 0.8, 0.9, 1.0])
def test_a_crop_is_found_anywhere(size):
    side = round(512 * size)
    for left, top in ((0, 0), (512 - side, 0), (512 - side, 512 - side)):
        query = half_detail(LARGE[top : top + side, left : left + side])
        score, placement = best_match(query, HALF)
        true = placement_of(size, left / 16, top / 16)
        corners = np.array([[0, 0, 1], [31, 0, 1], [0, 31, 1], [31, 31, 1]])
        assert np.abs(corners @ (placement - true).T).max() < 2.5  # of 32 px
        assert score > 0.7


@pytest.mark.parametrize(("name", "plane"), [*degenerate_planes()])
def test_whatever_the_planes_are_a_match_is_plausible(name, plane):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detail = half_detail(plane)
        for query, evaluation in ((detail, HALF), (HALF, detail), (detail, detail)):
            score, placement = best_match(query, evaluation)
            assert is_plausible(placement), name
            assert -1.01 < score < 1.01
