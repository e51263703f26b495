"""Pixels: upsampled as torch does it, counted as a loop would."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from alignset.train.evaluate import segmentation as module
from alignset.train.evaluate.segmentation import mean_iou, overlap, tell_pixels

pytestmark = pytest.mark.numeric

RNG = np.random.default_rng(13)


@pytest.mark.parametrize("size", [(40, 30), (3, 5), (1, 7), (9, 9)])
def test_scores_are_upsampled_as_interpolate_does(size: tuple[int, int], monkeypatch):
    scores = RNG.normal(size=(9, 9, 5)).astype(np.float32)
    whole = F.interpolate(
        torch.from_numpy(scores).permute(2, 0, 1)[None], size=size, mode="bilinear"
    )
    expected = whole[0].argmax(dim=0).numpy()
    np.testing.assert_array_equal(tell_pixels(scores, *size), expected)
    monkeypatch.setattr(module, "AT_ONCE", 1)  # a row at a time
    np.testing.assert_array_equal(tell_pixels(scores, *size), expected)


def test_overlaps_are_counted_where_the_truth_is_a_class():
    told, truth = RNG.integers(0, 4, (2, 12, 10))
    truth[:3] = -1
    truth[3] = 255
    both = overlap(told, truth, 4)
    for c in range(4):
        counts = np.isin(truth, range(4))
        assert both.intersection[c] == ((told == c) & (truth == c) & counts).sum()
        assert both.union[c] == (((told == c) | (truth == c)) & counts).sum()


def test_classes_that_do_not_occur_do_not_count():
    sums = np.array([[2.0, 0.0, 0.0, 3.0], [4.0, 5.0, 0.0, 3.0]])
    assert mean_iou(sums) == pytest.approx((0.5 + 0 + 1) / 3)
    np.testing.assert_allclose(mean_iou(np.stack([sums, sums])), 0.5)
