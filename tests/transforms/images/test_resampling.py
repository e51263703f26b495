"""Pictures made smaller: bit for bit as Pillow does it, and by areas as OpenCV does it."""

import tracemalloc

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage

from alignset.transforms.images.resampling import area_resampled, resampled, weights_of

SIZES = [
    (480, 640),
    (33, 57),
    (32, 32),
    (31, 100),
    (20, 10),
    (1000, 37),
    (97, 1300),
    (5, 5),
    (1, 40),
]


def pictures(height: int, width: int, *bands: int) -> list[np.ndarray]:
    rng = np.random.default_rng(height * width)
    noise = rng.integers(0, 256, (height, width, *bands), np.uint8)
    return [noise, np.where(noise < 128, 0, 255).astype(np.uint8)]


@pytest.mark.parametrize("kind", ["lanczos", "bilinear"])
@pytest.mark.parametrize("bands", [(), (3,)], ids=["grey", "rgb"])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_pillows_filters(height: int, width: int, bands: tuple[int, ...], kind: str):
    how = getattr(PillowImage.Resampling, kind.upper())
    for size in (32, 7):
        for pixels in pictures(height, width, *bands):
            expected = np.asarray(PillowImage.fromarray(pixels).resize((size, size), how))
            lines = (weights_of(kind, side, size) for side in (width, height))
            assert np.array_equal(resampled(pixels, *lines), expected)


def test_a_part_of_the_new_samples():
    whole, part = weights_of("bilinear", 100, 20), weights_of("bilinear", 100, 20, 5, 9)
    pixels = pictures(100, 100)[0]
    lines = weights_of("bilinear", 100, 20)
    assert np.array_equal(resampled(pixels, part, lines), resampled(pixels, whole, lines)[:, 5:9])


@pytest.mark.parametrize("bands", [(), (3,)], ids=["grey", "rgb"])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_areas_are_within_one_of_opencvs(height: int, width: int, bands: tuple[int, ...]):
    for high, wide in ((1, 1), (-(-height // 3), -(-width // 2)), (height, width)):
        for pixels in pictures(height, width, *bands):
            expected = cv2.resize(pixels, (wide, high), interpolation=cv2.INTER_AREA)
            ours = area_resampled(pixels, wide, high)
            assert np.abs(ours.astype(int) - expected).max() <= 1


def test_the_mean_of_a_flat_picture_is_that_picture():
    for level in (0, 1, 127, 254, 255):
        flat = np.full((301, 203, 3), level, np.uint8)
        assert np.array_equal(area_resampled(flat, 77, 100), flat[:100, :77])


def test_weights_take_memory_by_the_length_of_a_line():
    took = []
    for samples in (8_000, 16_000):
        tracemalloc.start()
        weights_of.__wrapped__("lanczos", samples, 32)  # without what is kept
        took.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert took[1] < 2.2 * took[0] < 40_000_000
