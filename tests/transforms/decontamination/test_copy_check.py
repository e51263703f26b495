import itertools
import warnings

import cv2
import numpy as np
import pytest

from alignset.transforms.decontamination.copy_check import (
    LEAST_CORNERS,
    UNLIKE,
    PairCheck,
    Query,
    correlated_cells,
    share_of_one_tone,
)
from alignset.transforms.decontamination.copy_index import distance_of, distance_of_smooth
from alignset.transforms.decontamination.copy_planes import copy_planes
from alignset.transforms.decontamination.plane_placement import placement_of
from alignset.transforms.rules.overlap import COPY_DISTANCE
from tests.support.grey_pictures import degenerate_planes, grey_photograph

pytestmark = pytest.mark.numeric

PICTURE = grey_photograph(11, 640, 480)
EVALUATION = copy_planes(PICTURE).whole
START = placement_of(1.0, 0.0, 0.0)


def rotated(degrees: float) -> np.ndarray:
    turn = cv2.getRotationMatrix2D((320, 240), degrees, 1)
    return cv2.warpAffine(PICTURE, turn, (640, 480))


def bannered(share: float) -> np.ndarray:
    picture = PICTURE.copy()
    picture[-round(480 * share) :] = 20
    return picture


COPIES = {
    "the same": PICTURE,
    "darker": (PICTURE * 0.7).astype(np.uint8),
    "blurred": cv2.GaussianBlur(PICTURE, (0, 0), 3),
    "cropped": PICTURE[60:440, 80:600],
    "cropped to 72 %": PICTURE[0:346, 0:461],
    "turned": rotated(4),
    "bannered": bannered(0.15),
    "bannered more": bannered(0.22),
}


@pytest.mark.parametrize("name", COPIES)
def test_copies_are_near(name):
    start = placement_of(0.75, 0.0, 0.0) if "72" in name else START  # as its entry says
    check = Query(copy_planes(COPIES[name]).whole).check(EVALUATION, start)
    assert distance_of(check) < COPY_DISTANCE, check


def test_other_pictures_are_far():
    distances = [
        distance_of(Query(copy_planes(grey_photograph(seed)).whole).check(EVALUATION, START))
        for seed in range(100, 130)
    ]
    assert min(distances) > 2 * COPY_DISTANCE


def test_whatever_the_planes_are_the_numbers_are_finite():
    planes = [*degenerate_planes(), ("photograph", EVALUATION)]
    for (one, plane), (other, evaluation) in itertools.product(planes, repeat=2):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check = Query(plane).check(evaluation, START)
        assert np.isfinite(check).all()
        assert 0 <= distance_of(check) < 1
        if one != other or one in ("black", "white"):
            assert distance_of(check) > COPY_DISTANCE, (one, other, check)


@pytest.mark.parametrize(
    ("check", "distance"),
    [
        (UNLIKE, 0.999),
        (PairCheck(1, 0, 1, 1, 1, 1, 1, 1, 1), 0.0),
        (PairCheck(1, 0, 1, 1, 1, 1, 0.1, 1, 1), 0.999),  # hardly any texture
        (PairCheck(1, 0, 1, 1, -1, 0, 1, -0.5, 0), 0.999),
        (PairCheck(1, 0.3, 1, 1, 1, 1, 1, 0.9, 1), 0.1),
        (PairCheck(1, 0.3, 1, 1, 0.9, 0.8, 1, 0.9, 1), 0.175),
        (PairCheck(1, 0.4, 1, 1, 1, 1, 1, 0.9, 1), 0.16),
        (PairCheck(1, 0.9, 1, 1, 1, 1, 1, 0.9, 1), 0.22),
    ],
)
def test_the_distance_falls_as_fine_detail_agrees(check, distance):
    assert distance_of(check) == distance


def drawn(*points: tuple[int, int]) -> np.ndarray:
    """A black line on white."""
    plane = np.full((64, 64), 255, np.uint8)
    cv2.line(plane, *points, 0, 3)
    return plane


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (drawn((0, 0), (63, 63)), drawn((0, 10), (63, 55))),
        (drawn((0, 30), (63, 30)), drawn((0, 40), (63, 40))),
    ],
    ids=["slopes", "horizons"],
)
def test_shapes_without_corners_are_compared_as_wholes(one, other):
    check = Query(one).check(other, START)
    assert check.corners < LEAST_CORNERS
    assert distance_of(check) == 0.999
    assert distance_of_smooth(one, one) == 0
    assert distance_of_smooth(one, other) > COPY_DISTANCE


def test_corners_are_those_of_the_plane_that_has_fewer():
    photograph = Query(EVALUATION).check(EVALUATION, START)
    assert photograph.corners > 2 * LEAST_CORNERS
    line = drawn((0, 30), (63, 30))
    there_and_back = [
        Query(one).check(two, START) for one, two in ((line, EVALUATION), (EVALUATION, line))
    ]
    assert there_and_back[0].corners < LEAST_CORNERS
    assert all(distance_of(check) == 0.999 for check in there_and_back)
    drawn_over = line.copy()
    drawn_over[-24:, -24:] = EVALUATION[-24:, -24:]
    assert Query(drawn_over).check(drawn_over, START).corners > LEAST_CORNERS
    assert Query(drawn_over).check(line, START).corners < LEAST_CORNERS


def test_a_copy_from_a_start_that_is_off_is_found_by_its_middle():
    cut = Query(copy_planes(PICTURE[90:450, 120:600]).whole)  # of three quarters of a side
    for start_px in ((12.0, 12.0), (10.0, 4.0), (10.0, 20.0), (14.0, 4.0)):
        assert distance_of(cut.check(EVALUATION, placement_of(0.75, *start_px))) < COPY_DISTANCE


def test_shares_are_of_the_plane_that_has_more_of_one_tone():
    plain = copy_planes(bannered(0.45)).whole
    checks = [Query(plain).check(EVALUATION, START), Query(EVALUATION).check(plain, START)]
    assert checks[0].plain == checks[1].plain == share_of_one_tone(plain)


def test_smooth_planes_are_compared_by_their_hashes():
    y, x = np.mgrid[:64, :64]
    hill = np.clip(250 - 3 * np.hypot(x - 30, y - 20), 0, 255).astype(np.uint8)
    assert distance_of(Query(hill).check(hill, START)) == 0.999
    for other, least, most in (
        (hill, 0, 0),
        ((hill * 0.8).astype(np.uint8), 0, COPY_DISTANCE),
        (hill[:, ::-1].copy(), COPY_DISTANCE, 0.999),
        (255 - hill, 0.999, 0.999),
        (np.zeros_like(hill), 0.999, 0.999),
    ):
        assert least <= distance_of_smooth(hill, other) <= most


ALL = np.ones((64, 64), np.float32)


def grey(seed: int) -> np.ndarray:
    small = cv2.resize(grey_photograph(seed), (64, 64), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) - 128


def test_cells_say_where_planes_agree():
    for window in (11, 13):  # with itself, but brighter
        made = correlated_cells(grey(1), grey(1) / 2 + 30, ALL, window, 2.0, 0.9)
        assert (made[0] == 256).all()
        assert (made[1] > 0.95 * made[0]).all()
        assert (made[2] == made[0]).all()
    textured, total, agreeing = correlated_cells(grey(1), grey(2), ALL, 13, 4.0, 0.75)
    assert max(total.sum(), agreeing.sum()) < 0.3 * textured.sum()
    flat = np.full((64, 64), 5, np.float32)
    assert not correlated_cells(flat, flat, ALL, 13, 4.0, 0.75).any()
    inside, other = ALL.copy(), grey(1)
    inside[:, 32:] = other[:, 32:] = 0
    textured, total, _ = correlated_cells(grey(1), other, inside, 11, 2.0, 0.6)
    assert (textured[:, 3] == 0).all()
    assert total[:, :2].sum() > 0.97 * textured[:, :2].sum() > 0
