"""Whether thumbnails are copies: how they are aligned, and how far they agree then."""

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
    aligned,
    is_plausible,
    normalised_detail,
    placement_of,
    share_of_one_tone,
)
from alignset.transforms.decontamination.copy_index import distance_of, distance_of_smooth
from alignset.transforms.decontamination.copy_thumbnails import make_thumbnails
from alignset.transforms.rules.thresholds import COPY_DISTANCE
from tests.support.grey_pictures import degenerate_thumbnails, grey_photograph

pytestmark = pytest.mark.numeric

PICTURE = grey_photograph(11, 640, 480)
EVALUATION = make_thumbnails(PICTURE).whole
START = placement_of(1.0, 0.0, 0.0)
WHOLE = [*degenerate_thumbnails(), ("photograph", EVALUATION)]


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
    "turned": cv2.warpAffine(PICTURE, cv2.getRotationMatrix2D((320, 240), 4, 1), (640, 480)),
    "bannered": bannered(0.15),
    "bannered more": bannered(0.22),
}


@pytest.mark.parametrize("name", COPIES)
def test_copies_are_near(name):
    start = placement_of(0.75, 0.0, 0.0) if "72" in name else START  # as its entry says
    check = Query(make_thumbnails(COPIES[name]).whole).check(EVALUATION, start)
    assert distance_of(check) < COPY_DISTANCE, check


def test_a_copy_from_a_start_that_is_off_is_found_by_its_middle():
    cut = Query(make_thumbnails(PICTURE[90:450, 120:600]).whole)  # of three quarters of a side
    for start_px in ((12.0, 12.0), (10.0, 10.0), (10.0, 14.0), (14.0, 10.0)):
        assert distance_of(cut.check(EVALUATION, placement_of(0.75, *start_px))) < COPY_DISTANCE


def test_whatever_the_planes_are_the_numbers_are_finite():
    for (one, thumbnail), (other, evaluation) in itertools.product(WHOLE, repeat=2):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check = Query(thumbnail).check(evaluation, START)
            details = [normalised_detail(of, 5.0) for of in (thumbnail, evaluation)]
            found = aligned(*details, START, 12)
        assert found is None or is_plausible(found)
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
    thumbnail = np.full((64, 64), 255, np.uint8)
    cv2.line(thumbnail, *points, 0, 3)
    return thumbnail


def test_shapes_without_corners_are_compared_as_wholes():
    y, x = np.mgrid[:64, :64]
    hill = np.clip(250 - 3 * np.hypot(x - 30, y - 20), 0, 255).astype(np.uint8)
    for one, other, least, most in (
        (drawn((0, 0), (63, 63)), drawn((0, 10), (63, 55)), COPY_DISTANCE, 0.999),
        (drawn((0, 30), (63, 30)), drawn((0, 40), (63, 40)), COPY_DISTANCE, 0.999),
        (hill, hill, 0, 0),
        (hill, (hill * 0.8).astype(np.uint8), 0, COPY_DISTANCE),
        (hill, hill[:, ::-1].copy(), COPY_DISTANCE, 0.999),
        (hill, 255 - hill, 0.999, 0.999),
        (hill, np.zeros_like(hill), 0.999, 0.999),
    ):
        check = Query(one).check(other, START)
        assert check.corners < LEAST_CORNERS
        assert distance_of(check) == 0.999
        assert distance_of_smooth(one, one) == 0
        assert least <= distance_of_smooth(one, other) <= most


def test_corners_and_tones_are_of_the_plane_that_has_fewer_and_more():
    line = drawn((0, 30), (63, 30))
    drawn_over = line.copy()
    drawn_over[-24:, -24:] = EVALUATION[-24:, -24:]
    for one, other, has_corners in (
        (EVALUATION, EVALUATION, True),
        (drawn_over, drawn_over, True),
        (drawn_over, line, False),
        (line, EVALUATION, False),
    ):
        check = Query(one).check(other, START)
        assert (check.corners >= LEAST_CORNERS) == has_corners
        assert has_corners or distance_of(check) == 0.999
    assert distance_of(Query(EVALUATION).check(line, START)) == 0.999
    plain = make_thumbnails(bannered(0.45)).whole
    checks = [Query(plain).check(EVALUATION, START), Query(EVALUATION).check(plain, START)]
    assert checks[0].plain == checks[1].plain == share_of_one_tone(plain)
