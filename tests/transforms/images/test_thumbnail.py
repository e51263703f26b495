import io

import pytest
from PIL import Image as PillowImage

from alignset.transforms.images.examine import Image, examine
from alignset.transforms.images.thumbnail import SIDE_PX, thumbnail
from tests.support.picture_files import encoded, good_files, photograph


def made(body: bytes) -> PillowImage.Image:
    image = examine(body)
    assert isinstance(image, Image)
    return PillowImage.open(io.BytesIO(thumbnail(body, image)))


@pytest.mark.parametrize("name", good_files())
def test_each_kind_of_file(name: str) -> None:
    small = made(good_files()[name])
    assert (small.format, small.mode) == ("JPEG", "RGB")
    assert max(small.size) <= SIDE_PX


@pytest.mark.parametrize(
    ("size", "small"),
    [
        ((1000, 500), (192, 96)),
        ((400, 400), (192, 192)),
        ((100, 50), (100, 50)),
        ((9000, 20), (192, 1)),
    ],
)
def test_its_size(size: tuple[int, int], small: tuple[int, int]) -> None:
    assert made(encoded(photograph(1).resize(size), "JPEG")).size == small
