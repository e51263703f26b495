"""The hash of a thumbnail is imagehash's of the same samples."""

import imagehash
import numpy as np
import pytest
from PIL import Image as PillowImage

from alignset.transforms.images.perceptual_hash import picture_hash, plane_hash
from tests.support.picture_files import photograph

pytestmark = pytest.mark.numeric


@pytest.mark.parametrize(
    "size", [(80, 60), (61, 83), (97, 132), (240, 96), (32, 32), (31, 40), (1, 5)]
)
def test_planes_of_all_sizes(size: tuple[int, int]) -> None:
    far = []
    for seed in range(25):
        picture = photograph(seed, *size).convert("L")
        far.append((plane_hash(np.asarray(picture)) ^ picture_hash(picture)).bit_count())
    assert np.mean(far) < 0.2
    assert max(far) <= 4


def test_it_reads_as_imagehash_prints_it() -> None:
    picture = photograph(3)
    assert format(picture_hash(picture), "016x") == str(imagehash.phash(picture))


@pytest.mark.parametrize("size", [(640, 480), (20, 3000), (25, 4000), (9000, 7), (3, 2), (1, 1)])
def test_rows_are_resized_before_columns(size: tuple[int, int]) -> None:
    """Also of a thumbnail that is so tall that Pillow would begin with the columns."""
    plane = np.random.default_rng(0).integers(0, 256, size[::-1], np.uint8)
    rows = PillowImage.fromarray(plane).resize((32, size[1]), PillowImage.Resampling.LANCZOS)
    assert plane_hash(plane) == plane_hash(np.asarray(rows))


@pytest.mark.parametrize("value", [0, 1, 77, 128, 255])
@pytest.mark.parametrize("shape", [(60, 80), (33, 97), (8, 8)])
def test_a_flat_picture_has_only_its_mean(value: int, shape: tuple[int, int]) -> None:
    """No bit is told by rounding, which is another one on another machine."""
    plane = np.full(shape, value, np.uint8)
    assert plane_hash(plane) == (1 << 63 if value else 0)
    assert PillowImage.fromarray(plane).size == shape[::-1]
