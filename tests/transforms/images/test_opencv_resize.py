"""The fast resizing beside img2dataset's own."""

import dataclasses
import io
from random import Random

import numpy as np
import pytest
from PIL import Image as PillowImage

from alignset.transforms.images.examine import Image, examine
from alignset.transforms.images.resize import Encoder
from alignset.transforms.images.resize_settings import ResizeSettings
from tests.support.picture_files import encoded, good_files, photograph

GOOD = good_files()
MODES = ["no", "border", "keep_ratio", "keep_ratio_largest", "center_crop"]


def shown(body: bytes) -> np.ndarray:
    return np.asarray(PillowImage.open(io.BytesIO(body)).convert("RGB")).astype(float)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Decibels: of a peak of 255 over the mean square of the differences."""
    return 10 * np.log10(255**2 / max(float(np.square(a - b).mean()), 1e-9))


def both(how: ResizeSettings, body: bytes) -> tuple[np.ndarray, np.ndarray]:
    """What the fast way gives and what img2dataset's gives."""
    image = examine(body)
    assert isinstance(image, Image)
    exact = dataclasses.replace(how, exact_resize=True)
    fast, slow = (Encoder(settings)(body, image) for settings in (how, exact))
    assert (fast.width, fast.height) == (slow.width, slow.height)
    assert fast.extension == slow.extension
    pixels = shown(fast.body)
    assert pixels.shape[:2] == (fast.height, fast.width)
    return pixels, shown(slow.body)


@pytest.mark.parametrize("size", [40, 256])
@pytest.mark.parametrize("mode", MODES)
def test_photographs_are_as_img2datasets_to_38_decibels(mode: str, size: int):
    large = photograph().resize((640, 469), PillowImage.Resampling.BICUBIC)
    noise = np.random.default_rng(1).normal(0, 4, (469, 640, 1))
    body = encoded(PillowImage.fromarray(np.uint8((large + noise).clip(0, 255))), "JPEG")
    assert psnr(*both(ResizeSettings(mode, size), body)) >= 38


@pytest.mark.parametrize("name", GOOD)
def test_every_kind_of_file_and_form_is_as_img2datasets(name: str):
    for *form, decibels in (("png", 6, 38), ("jpg", 95, 34), ("webp", 90, 34)):
        if form[0] == "png" or name == "jpeg":
            assert psnr(*both(ResizeSettings("keep_ratio", 64, *form), GOOD[name])) >= decibels


@pytest.mark.parametrize("seed", range(20))
def test_any_size_becomes_the_size_that_img2datasets_has(seed: int):
    random = Random(seed)
    width, height = (round(2 ** random.uniform(0, 9)) for _ in range(2))
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    body = encoded(PillowImage.fromarray(pixels), random.choice(["PNG", "JPEG"]))
    mode, size = random.choice(MODES), round(2 ** random.uniform(0, 9))
    only = random.random() < 0.3
    how = ResizeSettings(mode, size, "png", 1, resize_only_if_bigger=only)
    image = examine(body)
    assert isinstance(image, Image)
    slow, fast = (Encoder(dataclasses.replace(how, exact_resize=exact)) for exact in (True, False))
    try:
        theirs = slow(body, image)
    except ValueError as error:  # of an image that is smaller than the crop
        print(seed, error)
        assert mode == "center_crop"
        return
    ours = fast(body, image)
    assert (ours.width, ours.height) == (theirs.width, theirs.height), (seed, how, width, height)
    assert np.abs(shown(ours.body) - shown(theirs.body)).mean() < 3


@pytest.mark.parametrize("interpolation", ["nearest", "linear", "cubic", "area", "lanczos"])
def test_each_interpolation_is_opencvs_or_within_one_of_it(interpolation: str):
    how = ResizeSettings("keep_ratio", 50, "png", 1, downscale_interpolation=interpolation)
    ours, theirs = both(how, encoded(photograph(), "PNG"))
    assert np.abs(ours - theirs).max() <= (1 if interpolation == "area" else 0)
    how = ResizeSettings("keep_ratio", 333, "png", 1, upscale_interpolation=interpolation)
    ours, theirs = both(how, encoded(photograph(), "PNG"))
    assert np.array_equal(ours, theirs)
