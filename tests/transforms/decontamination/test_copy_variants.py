import numpy as np
import pytest

from tests.support.grey_pictures import grey_photograph
from transforms.decontamination.copy_planes import SIDE_PX, copy_planes
from transforms.decontamination.copy_variants import VARIANTS, variant_planes

PICTURE = np.pad(grey_photograph(3), ((20, 20), (0, 0)), constant_values=255)
PAIR = np.stack(copy_planes(PICTURE)[:2])


def test_there_are_thirty_with_names_of_their_own():
    assert len(VARIANTS) == len({variant.name for variant in VARIANTS}) == 30
    assert sum(variant.is_mirrored for variant in VARIANTS) == 15
    assert [variant.name for variant in VARIANTS if not variant.of_trimmed] == [
        "whole",
        "whole_mirrored",
    ]


@pytest.mark.parametrize("number", range(30), ids=[variant.name for variant in VARIANTS])
def test_each_shows_the_part_that_it_says(number):
    variant = VARIANTS[number]
    made = variant_planes(PAIR[np.newaxis])[0, number]
    assert made.shape == (SIDE_PX, SIDE_PX)
    plane = PAIR[int(variant.of_trimmed)]
    side = round(SIDE_PX * variant.size)
    assert variant.x_px + side <= SIDE_PX
    assert variant.y_px + side <= SIDE_PX
    part = plane[variant.y_px : variant.y_px + side, variant.x_px : variant.x_px + side]
    upright = made[:, ::-1] if variant.is_mirrored else made
    corners = np.ix_([0, -1], [0, -1])  # which no resize changes
    assert (upright[corners] == part[corners]).all()
    if side == SIDE_PX:
        assert (upright == part).all()


def test_names_say_where_a_crop_is():
    by_name = {variant.name: variant for variant in VARIANTS}
    top_right = by_name["crop_75_top_right"]
    assert (top_right.x_px, top_right.y_px) == (16, 0)
    middle = by_name["crop_75_middle_centre_mirrored"]
    assert (middle.x_px, middle.y_px) == (8, 8)
    assert by_name["crop_88_bottom_left"].y_px == 8


def test_images_do_not_depend_on_each_other():
    pairs = np.stack([np.stack(copy_planes(grey_photograph(seed))[:2]) for seed in range(3)])
    together = variant_planes(pairs)
    for pair, planes in zip(pairs, together, strict=True):
        assert (variant_planes(pair[np.newaxis])[0] == planes).all()
    assert variant_planes(pairs[:0]).shape == (0, 30, SIDE_PX, SIDE_PX)
