import warnings

import cv2
import numpy as np
import pytest

from tests.support.grey_pictures import degenerate_planes, grey_photograph
from transforms.decontamination.copy_planes import copy_planes
from transforms.decontamination.plane_alignment import (
    Aligner,
    blurred,
    coarse_placement,
    is_plausible,
    normalised_detail,
    placed,
    placement_of,
)

LARGE = grey_photograph(5, 512, 512)
EVALUATION = normalised_detail(copy_planes(LARGE).whole)
START = placement_of(1.0, 0.0, 0.0)


def seen_through(placement: np.ndarray) -> np.ndarray:
    """The detail of a query that lies on the picture by that placement, cut from the full one."""
    full = placement.astype(np.float64).copy()
    # Pixels are squares around their coordinates: the small one at p has its centre at 8 p + 3.5.
    full[:, 2] = 8 * placement[:, 2] + 3.5 - 3.5 * placement[:, :2].sum(1)
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(LARGE, full, (512, 512), flags=how, borderMode=cv2.BORDER_REFLECT)
    return normalised_detail(copy_planes(warped).whole)


def worst_px(found: np.ndarray, true: np.ndarray) -> float:
    corners = np.array([[0, 0, 1], [63, 0, 1], [0, 63, 1], [63, 63, 1]], np.float64)
    return float(np.abs(corners @ (found - true).T).max())


@pytest.mark.parametrize(
    "true",
    [
        START,
        placement_of(0.95, 2.0, 1.0),
        placement_of(1.06, -2.0, -1.0),
        np.array([[0.998, -0.06, 2], [0.06, 0.998, -2]], np.float32),
        np.array([[0.92, 0.0, 1], [0.0, 1.0, 0]], np.float32),
    ],
    ids=["same", "crop", "border", "rotated", "squeezed"],
)
def test_lucas_kanade_finds_placements_nearby(true):
    query = seen_through(true)
    found = Aligner(query).refined(blurred(EVALUATION, 1.0), START)
    assert worst_px(found, true) < 0.7


@pytest.mark.parametrize("size", [0.72, 0.8, 0.9, 1.0])
def test_template_matching_finds_a_crop_anywhere(size):
    for x_px, y_px in ((0.0, 0.0), (64 * (1 - size), 0.0), (64 * (1 - size), 64 * (1 - size))):
        true = placement_of(size, x_px, y_px)
        found = coarse_placement(seen_through(true), EVALUATION)
        assert worst_px(found, true) < 5  # which Lucas-Kanade closes
        refined = Aligner(seen_through(true)).refined(blurred(EVALUATION, 1.0), found)
        assert worst_px(refined, true) < 0.7


def test_tone_and_light_do_not_change_detail_much():
    plane = copy_planes(LARGE).whole
    darker = (plane * 0.6 + 20).astype(np.uint8)
    there, here = normalised_detail(darker), normalised_detail(plane)
    assert np.corrcoef(there.ravel(), here.ravel())[0, 1] > 0.98


def test_placed_by_the_identity_is_the_plane_itself():
    assert np.allclose(placed(EVALUATION, START), EVALUATION, atol=1e-4)
    far = placed(EVALUATION, placement_of(1.0, 200.0, 0.0), outside=9.0)
    assert (far == 9).all()


@pytest.mark.parametrize(
    ("placement", "plausible"),
    [
        (START, True),
        (placement_of(0.6, 0, 0), True),
        (placement_of(0.44, 0, 0), False),
        (placement_of(1.46, 0, 0), False),
        (np.array([[1, 0.26, 0], [0, 1, 0]], np.float32), False),
        (np.full((2, 3), np.nan, np.float32), False),
    ],
)
def test_a_placement_is_plausible_where_copies_are_seen(placement, plausible):
    assert is_plausible(placement) == plausible


@pytest.mark.parametrize(("name", "plane"), [*degenerate_planes()])
def test_nothing_is_raised_whatever_the_planes_are(name, plane):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detail = normalised_detail(plane)
        for query, evaluation in ((detail, EVALUATION), (EVALUATION, detail), (detail, detail)):
            start = coarse_placement(query, evaluation)
            assert is_plausible(start), name
            Aligner(query).refined(blurred(evaluation, 1.0), start)
