import warnings

import cv2
import numpy as np
import pytest
import torch

from alignset.transforms.decontamination.plane_alignment import normalised_detail
from alignset.transforms.decontamination.plane_matching import HALF_PX, Templates, matched
from alignset.transforms.decontamination.plane_placement import is_plausible, placement_of
from tests.support.closeness import close
from tests.support.grey_pictures import degenerate_planes, grey_photograph

pytestmark = pytest.mark.numeric

LARGE = grey_photograph(5, 512, 512)


def half_detail(picture: np.ndarray) -> np.ndarray:
    small = cv2.resize(picture, (HALF_PX, HALF_PX), interpolation=cv2.INTER_AREA)
    return normalised_detail(small, 2.5)


EVALUATION = half_detail(LARGE)


@pytest.mark.parametrize("size", [0.65, 0.72, 0.8, 0.9, 1.0])
def test_a_crop_is_found_anywhere(size):
    side = round(512 * size)
    for left, top in ((0, 0), (512 - side, 0), (512 - side, 512 - side)):
        match = Templates(half_detail(LARGE[top : top + side, left : left + side])).best(EVALUATION)
        true = placement_of(size, left / 16, top / 16)
        corners = np.array([[0, 0, 1], [31, 0, 1], [0, 31, 1], [31, 31, 1]])
        assert np.abs(corners @ (match.placement - true).T).max() < 2.5  # of 32 px
        assert match.score > 0.7


@pytest.mark.parametrize("seed", [3, 6])
def test_templates_are_middles_of_the_query_as_opencv_resizes_it(seed):
    query = half_detail(grey_photograph(seed))
    sides = (38, 35, 32, 29, 27, 25, 22, 20)
    for template, side in zip(Templates(query).templates, sides, strict=True):
        how = cv2.INTER_LINEAR if side > HALF_PX else cv2.INTER_AREA
        margin = (side - len(template)) // 2
        middle = cv2.resize(query, (side, side), interpolation=how)[margin:-margin, margin:-margin]
        middle = middle - middle.mean()
        middle /= max(1.0, np.sqrt((middle * middle).sum()))
        # Its mean and its length sum over all samples.
        assert close(template, middle, terms=4 + 2 * middle.size)


def test_planes_of_another_side_are_refused():
    with pytest.raises(ValueError, match="32 px"):
        Templates(np.zeros((31, 32), np.float32))


def test_scores_are_those_of_opencv():
    for template in Templates(half_detail(grey_photograph(6))).templates:
        sums, squares = (np.float64(cv2.integral(v)) for v in (EVALUATION, EVALUATION**2))
        score, x, y = matched(template, EVALUATION, sums, squares)
        scores = cv2.matchTemplate(EVALUATION, template, cv2.TM_CCOEFF_NORMED)
        _, best, _, place = cv2.minMaxLoc(scores)
        # OpenCV multiplies spectra; a window's mean and length are summed, too.
        terms = 3 * template.size
        assert close(score, best, terms=terms, precision=torch.float32)
        assert (x, y) == place


@pytest.mark.parametrize(("name", "plane"), [*degenerate_planes()])
def test_whatever_the_planes_are_a_match_is_plausible(name, plane):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detail = half_detail(plane)
        for query, evaluation in ((detail, EVALUATION), (EVALUATION, detail), (detail, detail)):
            match = Templates(query).best(evaluation)
            assert is_plausible(match.placement), name
            assert -1.01 < match.score < 1.01
