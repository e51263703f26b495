"""What an image model is shown: the pixels that Pillow would give, of whatever file."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from alignset.transforms.images import small_pixels as module
from alignset.transforms.images.examine import Image, examine
from alignset.transforms.images.file_formats import MAX_SIDE
from alignset.transforms.images.small_pixels import shown_in_groups, small_pixels, squashed
from tests.support.picture_files import encoded, photograph

BILINEAR = PillowImage.Resampling.BILINEAR


def shown(body: bytes, resize: int = 256, size: int = 224) -> np.ndarray:
    image = examine(body)
    assert isinstance(image, Image)
    return small_pixels(body, image, resize, size)


@given(st.integers(1, 700), st.integers(1, 700), st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_a_squashed_picture_is_pillows(width: int, height: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    whole = PillowImage.fromarray(pixels).resize((256, 256), BILINEAR)
    assert np.array_equal(squashed(pixels, 256, 224), np.asarray(whole)[16:240, 16:240])


def test_without_a_margin_the_whole_picture_is_seen() -> None:
    whole = photograph().resize((32, 32), BILINEAR)
    assert np.array_equal(squashed(np.asarray(photograph()), 32, 32), np.asarray(whole))


@pytest.mark.parametrize("size", [(1, MAX_SIDE), (MAX_SIDE, 1)])
def test_a_strip_of_a_small_file_takes_little_memory(size: tuple[int, int]) -> None:
    body = encoded(PillowImage.new("1", size, 1), "PNG")
    assert len(body) < 20_000
    tracemalloc.start()
    pixels = shown(body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert pixels.min() == 255
    assert peak < 200_000_000


def test_rules_are_shown_each_picture_once_in_order_and_what_is_broken_as_none() -> None:
    bodies = [encoded(photograph(n), "PNG") for n in range(70)]
    images = [examine(body) for body in bodies]
    bodies[3] = b"broken"
    groups = [*shown_in_groups(zip(bodies, images, strict=True))]
    assert [len(group) for group in groups] == [32, 32, 6]
    pictures = [pixels for group in groups for pixels in group]
    assert [n for n, pixels in enumerate(pictures) if pixels is None] == [3]
    assert np.array_equal(pictures[69], np.asarray(photograph(69)))


def test_memory_of_what_rules_are_shown_is_that_of_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    body = encoded(PillowImage.new("RGB", (1000, 1000)), "PNG")  # 3 MB in memory
    image = examine(body)
    assert isinstance(image, Image)
    monkeypatch.setattr(module, "MOST_SHOWN", 6_000_000)

    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            for group in shown_in_groups((body, replace(image)) for _ in range(count)):
                assert len(group) <= 2
                del group
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(2)
    assert peak(20) < peak(10) + 1_000_000
