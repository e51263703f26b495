"""Which training images show what is held out: real photographs, altered, and graphics."""

from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import skimage.data
from PIL import Image as PillowImage
from PIL import ImageDraw

from alignset.transforms.decontamination.copy_index import Nearest, build_copy_index
from alignset.transforms.decontamination.copy_thumbnails import stack_thumbnails
from alignset.transforms.decontamination.evaluation_index import IMAGE_ROWS, IMAGES, EvaluationIndex
from alignset.transforms.duplicates.find_copies import (
    PLAIN,
    PLAIN_DISTANCE,
    held_out_matches,
    is_near,
)
from alignset.transforms.images.examine import examine
from tests.support.picture_files import encoded

NAMES = ("astronaut", "chelsea", "coffee", "rocket")
ALTERED: dict[str, Callable[[PillowImage.Image], bytes]] = {
    "quality": lambda im: encoded(im, "JPEG", quality=35),
    "half": lambda im: encoded(im.resize((im.width // 2, im.height // 2)), "WEBP"),
    "mirrored": lambda im: encoded(im.transpose(PillowImage.Transpose.FLIP_LEFT_RIGHT), "JPEG"),
    "cropped": lambda im: encoded(im.crop((20, 20, im.width - 20, im.height - 20)), "PNG"),
}


def photo(name: str) -> PillowImage.Image:
    return PillowImage.fromarray(getattr(skimage.data, name)()).convert("RGB")


def chart(heights: list[int]) -> PillowImage.Image:
    """A bar chart: one tone fills most of it, and others of its kind agree in most places."""
    image = PillowImage.new("RGB", (400, 300), "white")
    draw = ImageDraw.Draw(image)
    draw.line([(30, 10), (30, 280), (390, 280)], "black", 2)
    for at, height in enumerate(heights):
        draw.rectangle([45 + 50 * at, 280 - height, 75 + 50 * at, 279], "black")
        draw.text((50 + 50 * at, 284), f"{at}", "black")
    return image


HEIGHTS = [100, 60, 200, 140, 80, 30, 150]
CHARTS = [chart(HEIGHTS[n:] + HEIGHTS[:n]) for n in range(7)]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> EvaluationIndex:
    folder = tmp_path_factory.mktemp("index")
    held = {name: photo(name) for name in NAMES} | {"chart": CHARTS[0], "again": photo("rocket")}
    bodies = [encoded(image, "JPEG", quality=92) for image in held.values()]
    looks = [examine(body, keep_grey=True) for body in bodies]
    build_copy_index([stack_thumbnails(looks)], folder)
    rows = [["holdout"] * len(held), [*held], [""] * len(held)]
    pq.write_table(pa.table(rows, schema=IMAGE_ROWS), folder / IMAGES)
    return EvaluationIndex(folder)


def test_altered_copies_are_found_with_all_that_they_are_copies_of(index: EvaluationIndex):
    images, expected = {}, set()
    for name in NAMES:
        for alter in ALTERED.values():
            expected |= {(of, len(images)) for of in (name, "again") if "rocket" in (of, name)}
            expected |= {(name, len(images))}
            images[len(images)] = alter(photo(name))
    expected = {(of, key) for of, key in expected if of != "again" or key >= 12}
    others = [photo("camera"), photo("coins"), PillowImage.new("RGB", (300, 200), "navy")]
    images |= {100 + n: encoded(image, "JPEG") for n, image in enumerate(others)}
    assert set(held_out_matches(index, images)) == expected
    assert held_out_matches(index, {}) == held_out_matches(index, {1: b"no picture"}) == []


def test_a_chart_of_the_same_family_is_no_copy_and_the_same_chart_is(index: EvaluationIndex):
    images = {n: encoded(image, "PNG") for n, image in enumerate(CHARTS)}
    assert held_out_matches(index, images) == [("chart", 0)]


@pytest.mark.parametrize(
    ("plain", "variant", "distance", "near"),
    [
        (PLAIN - 0.01, "crop_75_top_left", 0.249, True),
        (PLAIN - 0.01, "whole", 0.25, False),
        (PLAIN, "whole", PLAIN_DISTANCE - 0.001, True),
        (PLAIN, "trimmed", PLAIN_DISTANCE, False),
        (PLAIN, "crop_75_top_left", 0.0, False),
    ],
)
def test_graphics_have_a_stricter_distance(plain: float, variant: str, distance: float, near: bool):
    assert is_near(Nearest(0, distance, {"plain": plain, "variant": variant})) == near
