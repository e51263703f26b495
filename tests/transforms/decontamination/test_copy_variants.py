import numpy as np
import pytest

from alignset.transforms.decontamination.copy_planes import SIDE_PX, copy_planes
from alignset.transforms.decontamination.copy_variants import VARIANTS, variants_of
from tests.support.grey_pictures import grey_photograph

PICTURE = grey_photograph(3)


def pair_of(down: int, across: int) -> np.ndarray:
    framed = np.pad(PICTURE, ((down, down), (across, across)), constant_values=255)
    return np.stack(copy_planes(framed)[:2])


def test_all_have_names_of_their_own_and_half_are_mirrored():
    assert len(VARIANTS) == len({variant.name for variant in VARIANTS}) == 30
    assert sum(variant.is_mirrored for variant in VARIANTS) == 15


@pytest.mark.parametrize(("down", "across", "count"), [(0, 0, 28), (20, 0, 30), (20, 25, 30)])
def test_planes_that_are_the_same_stand_there_once(down, across, count):
    numbers, planes = variants_of(pair_of(down, across))
    assert len(numbers) == len(planes) == count
    assert len({plane.tobytes() for plane in planes}) == count
    assert (np.diff(numbers) > 0).all()


def test_each_shows_the_part_that_it_says():
    pair = pair_of(20, 25)
    for variant, made in zip(VARIANTS, variants_of(pair)[1], strict=True):
        plane, side = pair[int(variant.of_trimmed)], round(SIDE_PX * variant.size)
        part = plane[variant.y_px : variant.y_px + side, variant.x_px : variant.x_px + side]
        upright = made[:, ::-1] if variant.is_mirrored else made
        corners = np.ix_([0, -1], [0, -1])  # which no resize changes
        assert (upright[corners] == part[corners]).all(), variant.name
        assert side < SIDE_PX or (upright == part).all()


def test_names_say_where_a_crop_is():
    by_name = {variant.name: variant for variant in VARIANTS}
    assert by_name["crop_75_top_right"].start_px == (16, 0)
    assert by_name["crop_75_top_right_mirrored"].start_px == (0, 0)
    assert by_name["crop_75_middle_centre_mirrored"].start_px == (8, 8)
    assert by_name["crop_88_bottom_left"].start_px == (0, 8)
