import numpy as np
import pytest
from PIL import Image as PillowImage

from alignset.transforms.images.displayed_picture import small_grey
from alignset.transforms.images.examine import Image, examine
from tests.support.picture_files import encoded, good_files, photograph


@pytest.mark.parametrize(
    ("size", "small"),
    [
        ((1, 1), (1, 1)),
        ((255, 300), (255, 300)),
        ((256, 300), (128, 150)),
        ((2000, 700), (400, 140)),
        ((8191, 1), (8191, 1)),
        ((1, 8192), (1, 4096)),
        ((600, 80_000), (150, 8000)),
    ],
)
def test_a_small_grey_picture(size: tuple[int, int], small: tuple[int, int]) -> None:
    grey = small_grey(PillowImage.new("L", size, 76))
    assert (grey.dtype, grey.shape) == (np.uint8, small[::-1])
    assert set(grey.ravel().tolist()) == {76}


@pytest.mark.parametrize("name", good_files())
def test_each_kind_of_file_gives_its_grey_where_that_is_asked_for(name: str) -> None:
    body = good_files()[name]
    for in_full in (False, True):
        image = examine(body, in_full=in_full, keep_grey=True)
        assert isinstance(image, Image)
        assert image.grey is not None
        assert min(image.grey.shape) >= 60
        without = examine(body, in_full=in_full)
        assert isinstance(without, Image)
        assert without.grey is None
        assert without == image


def test_a_quick_grey_picture_is_near_the_whole_one() -> None:
    body = encoded(photograph(3), "JPEG")
    quick, whole = (examine(body, in_full=full, keep_grey=True) for full in (False, True))
    assert isinstance(quick, Image)
    assert isinstance(whole, Image)
    assert quick.grey is not None
    assert whole.grey is not None
    squares = [PillowImage.fromarray(i.grey).resize((32, 32), 4) for i in (quick, whole)]
    difference = np.asarray(squares[0], np.int32) - np.asarray(squares[1], np.int32)
    assert np.abs(difference).mean() < 6
