import cv2
import numpy as np
import pytest
import torch

from alignset.transforms.decontamination.plane_correlation import agreement_of, correlated_cells
from alignset.transforms.decontamination.plane_placement import placement_of
from tests.support.closeness import close
from tests.support.grey_pictures import grey_photograph

pytestmark = pytest.mark.numeric

ALL = np.ones((64, 64), np.float32)


def grey(seed: int) -> np.ndarray:
    small = cv2.resize(grey_photograph(seed), (64, 64), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) - 128


@pytest.mark.parametrize("window", [11, 13])
def test_a_plane_agrees_with_itself_but_brighter_everywhere(window):
    textured, total, agreeing = correlated_cells(grey(1), grey(1) / 2 + 30, ALL, window, 2.0, 0.9)
    assert (textured == 256).all()
    assert (total > 0.95 * textured).all()
    assert (agreeing == textured).all()


def test_only_where_both_are_seen_is_compared():
    inside = ALL.copy()
    inside[:, 32:] = 0
    other = grey(1)
    other[:, 32:] = 0
    textured, total, _ = correlated_cells(grey(1), other, inside, 11, 2.0, 0.6)
    assert (textured[:, 3] == 0).all()
    assert total[:, :2].sum() > 0.97 * textured[:, :2].sum() > 0


def test_another_plane_does_not_agree():
    textured, total, agreeing = correlated_cells(grey(1), grey(2), ALL, 13, 4.0, 0.75)
    assert total.sum() < 0.3 * textured.sum()
    assert agreeing.sum() < 0.3 * textured.sum()


def test_what_is_flat_is_not_textured():
    flat = np.full((64, 64), 5, np.float32)
    assert not correlated_cells(flat, flat, ALL, 13, 4.0, 0.75).any()


def test_the_agreement_is_the_correlation_where_one_lies_on_the_other():
    here, start = grey(3)[:32, :32].copy(), placement_of(1.0, 0.0, 0.0)
    moved = np.roll(here, 4, axis=1)
    for other, expected, placement in (
        (here, 1.0, start),
        (-here, -1.0, start),
        (moved, 1.0, placement_of(1.0, 4.0, 0.0)),
    ):
        agreement = agreement_of(here, other, placement)
        assert close(agreement, expected, terms=32 * 32, precision=torch.float32)
    assert agreement_of(here, moved, start) < 0.9
    assert agreement_of(here, here, placement_of(1.0, 30.0, 0.0)) == -1  # hardly an overlap
