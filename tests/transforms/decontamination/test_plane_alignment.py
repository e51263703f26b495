import warnings

import cv2
import numpy as np
import pytest
import torch

from alignset.transforms.decontamination.copy_planes import copy_planes
from alignset.transforms.decontamination.plane_alignment import Aligner, blurred, normalised_detail
from alignset.transforms.decontamination.plane_placement import placement_of
from tests.support.closeness import close
from tests.support.grey_pictures import degenerate_planes, grey_photograph

pytestmark = pytest.mark.numeric

LARGE = grey_photograph(5, 512, 512)
EVALUATION = normalised_detail(copy_planes(LARGE).whole, 5.0)
START = placement_of(1.0, 0.0, 0.0)


def seen_through(placement: np.ndarray) -> np.ndarray:
    """The detail of a query that lies on the image by that placement, cut from the full one."""
    full = placement.astype(np.float64).copy()
    # Pixels are squares around their coordinates: the small one at p has its centre at 8 p + 3.5.
    full[:, 2] = 8 * placement[:, 2] + 3.5 - 3.5 * placement[:, :2].sum(1)
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(LARGE, full, (512, 512), flags=how, borderMode=cv2.BORDER_REFLECT)
    return normalised_detail(copy_planes(warped).whole, 5.0)


def worst_px(found: np.ndarray, true: np.ndarray) -> float:
    corners = np.array([[0, 0, 1], [63, 0, 1], [0, 63, 1], [63, 63, 1]], np.float64)
    return float(np.abs(corners @ (found - true).T).max())


@pytest.mark.parametrize(
    "true",
    [
        START,
        placement_of(0.95, 2.0, 1.0),
        placement_of(1.06, -2.0, -1.0),
        np.array([[0.998, -0.06, 2], [0.06, 0.998, -2]]),
        np.array([[0.92, 0.0, 1], [0.0, 1.0, 0]]),
    ],
    ids=["same", "crop", "border", "rotated", "squeezed"],
)
@pytest.mark.parametrize("every", [1, 2])
def test_lucas_kanade_finds_placements_nearby(true, every):
    query = seen_through(true)
    found = Aligner(query).refined(blurred(EVALUATION, 1.0), START, 12, every)
    assert worst_px(found, true) < 0.7


def test_a_step_is_the_least_squares_of_the_linearised_residual():
    query, evaluation = blurred(EVALUATION, 1.0), blurred(seen_through(placement_of(1, 1, 0)), 1.0)
    across, down = (cv2.Sobel(query, cv2.CV_32F, *by, scale=1 / 8) for by in ((1, 0), (0, 1)))
    y, x = (axis[3:-3, 3:-3].ravel() for axis in np.mgrid[:64, :64].astype(float))
    gx, gy, q, e = (v[3:-3, 3:-3].ravel().astype(float) for v in (across, down, query, evaluation))
    slopes = np.stack([gx * x, gx * y, gx, gy * x, gy * y, gy])
    residual = e - q
    weighted = slopes / (1 + (residual / 0.7) ** 2)
    curvature = weighted @ slopes.T
    damping = np.trace(curvature) / 6 * np.array([1e-5, 1e-5, 1e-6] * 2)
    a, b, c, d, f, g = np.linalg.solve(curvature + np.diag(damping), weighted @ residual)
    expected = np.linalg.inv([[1 + a, b, c], [d, 1 + f, g], [0, 0, 1]])[:2]
    found = Aligner(EVALUATION).refined(evaluation, START, 1)
    assert close(found, expected, terms=q.size, precision=torch.float32)


def test_tone_and_light_do_not_change_detail_much():
    plane = copy_planes(LARGE).whole
    darker = (plane * 0.6 + 20).astype(np.uint8)
    there, here = normalised_detail(darker, 5.0), normalised_detail(plane, 5.0)
    assert np.corrcoef(there.ravel(), here.ravel())[0, 1] > 0.98


def test_nothing_is_raised_whatever_the_planes_are():
    for name, plane in degenerate_planes():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            detail = normalised_detail(plane, 5.0)
            for query, evaluation in ((detail, EVALUATION), (EVALUATION, detail), (detail, detail)):
                refined = Aligner(query).refined(blurred(evaluation, 1.0), START, 12)
                assert np.isfinite(refined).all(), name


def test_larger_planes_are_refused():
    large = np.zeros((65, 65), np.float32)
    with pytest.raises(ValueError, match="64 px"):
        Aligner(large).refined(large, START, 1)


def test_equations_without_a_solution_leave_the_placement(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise np.linalg.LinAlgError

    monkeypatch.setattr("alignset.transforms.decontamination.plane_alignment.refine", fails)
    found = Aligner(EVALUATION).refined(blurred(EVALUATION, 1.0), START, steps=3)
    assert found.tolist() == START.tolist()
