import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from alignset.transforms.decontamination.copy_thumbnails import SIDE_PX, make_thumbnails
from tests.support.grey_pictures import grey_photograph

PICTURE = grey_photograph(1, 160, 120)


def framed(top: int, bottom: int, left: int, right: int, tone: int = 255, last: int | None = None):
    """The image with borders, the lower and the right one of another tone where that is given."""
    last = tone if last is None else last
    height, width = PICTURE.shape
    canvas = np.full((height + top + bottom, width + left + right), tone, np.uint8)
    canvas[top + height :] = last
    canvas[:, left + width :] = last
    canvas[top : top + height, left : left + width] = PICTURE
    return canvas


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(int) - other).mean())


@pytest.mark.parametrize(
    ("borders", "trims"),
    [
        ((20, 20, 0, 0), True),
        ((0, 0, 30, 30), True),
        ((9, 9, 9, 9), True),
        ((20, 5, 0, 0), True),
        ((0, 0, 0, 0), False),
        ((20, 0, 0, 0), False),  # a banner
        ((0, 0, 0, 30), False),
        ((110, 110, 0, 0), True),
        ((150, 150, 0, 0), False),  # less than a third would be left
    ],
)
def test_borders_are_trimmed_where_opposite_sides_have_them(borders, trims):
    thumbnails = make_thumbnails(framed(*borders, 128))
    assert thumbnails.is_trimmed == trims
    if trims:
        assert difference(thumbnails.trimmed, make_thumbnails(PICTURE).whole) < 11
        assert difference(thumbnails.whole, thumbnails.trimmed) > 6
    else:
        assert thumbnails.trimmed is thumbnails.whole


@pytest.mark.parametrize(("last", "trims"), [(200, True), (212, True), (213, False), (0, False)])
def test_opposite_borders_are_of_one_colour(last, trims):
    assert make_thumbnails(framed(20, 20, 0, 0, 200, last)).is_trimmed == trims


def test_a_frame_inside_of_bars_is_trimmed_too():
    inner = np.pad(framed(8, 8, 8, 8, 0), ((30, 30), (0, 0)), constant_values=255)
    assert difference(make_thumbnails(inner).trimmed, make_thumbnails(PICTURE).whole) < 11


@pytest.mark.parametrize("ringing", [9, 40])
def test_a_border_may_ring_as_a_jpeg_does_but_not_more(ringing):
    picture = framed(20, 20, 0, 0, 128)
    noise = np.random.default_rng(0).integers(-(ringing // 2), ringing // 2 + 1, picture.shape)
    noisy = np.clip(picture + noise, 0, 255).astype(np.uint8)
    small = make_thumbnails(noisy[::2, ::2])  # below 128 px a side nothing is averaged
    assert small.is_trimmed == (ringing == 9)


@example(np.zeros((1, 100_000), np.uint8))
@example(np.arange(100_000, dtype=np.uint8).reshape(-1, 1))
@example(np.full((90, 120), 7, np.uint8))
@settings(max_examples=40)
@given(st.tuples(st.integers(1, 200), st.integers(1, 200)).flatmap(lambda s: arrays(np.uint8, s)))
def test_any_picture_has_planes_within_its_tones(grey):
    thumbnails = make_thumbnails(grey)
    assert thumbnails.whole.min() >= grey.min()
    assert thumbnails.whole.max() <= grey.max()
    assert thumbnails.whole.shape == thumbnails.trimmed.shape == (SIDE_PX, SIDE_PX)
    assert not thumbnails.is_trimmed or len(np.unique(grey)) > 1
