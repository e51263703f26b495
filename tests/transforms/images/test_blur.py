"""Boxes that are blurred: the pixels are img2dataset's, and odd boxes cost a pair, not a run."""

import dataclasses
import io
import math
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image as PillowImage

from alignset.transforms.images.blur import blurred, joined_boxes, read_boxes, turned_boxes
from alignset.transforms.images.decode import TURNS
from alignset.transforms.images.examine import Image, examine
from alignset.transforms.images.resize import Encoder
from alignset.transforms.images.resize_settings import ResizeSettings
from tests.support.picture_files import encoded, photograph, turned


def theirs() -> Any:
    """img2dataset's own blurrer; its package is imported by the tests of it alone."""
    from img2dataset.blurrer import BoundingBoxBlurrer

    return BoundingBoxBlurrer()


def striped(seed: int = 0, kind: str = "PNG", **options: Any) -> bytes:
    """A photograph with fine lines, which a blur removes."""
    pixels = np.asarray(photograph(seed)).astype(int)
    pixels[:, ::4] += 70
    return encoded(PillowImage.fromarray(pixels.clip(0, 255).astype(np.uint8)), kind, **options)


FACE, CORNER = [0.25, 0.125, 0.5, 0.75], [-0.125, 0.75, 0.25, 1.0625]
WIDE = [[0.0, 0.0, 1.0, 1.0], [0.5, 0.5, 0.5, 0.75], [0.3, 0.3, 0.3, 0.3]]
BOXES = {"one": [FACE], "outside": [FACE, CORNER], "whole": WIDE, "none": [[0.5] * 4]}
BOXES["apart"] = [[0, 0, 0.1, 0.1], [0.8, 0.9, 1, 1], [0.9, 0.1, 1, 0.15], [0.1, 0.85, 0.15, 0.9]]
BOXES["many"] = [
    [x / 40, y / 40, x / 40 + 0.01, y / 40 + 0.02] for x in range(40) for y in range(25)
]


@pytest.mark.parametrize("name", BOXES)
@pytest.mark.parametrize(
    "size", [(150, 110), (256, 256), (640, 427), (1200, 900), (7, 300), (1, 1)]
)
def test_pixels_are_those_of_img2datasets_blurrer(name: str, size: tuple[int, int]) -> None:
    colour = np.asarray(photograph(1, *size))
    for pixels in (colour, colour[:, :, 0]):
        expected = theirs()(pixels, BOXES[name])
        ours = blurred(pixels, np.array(BOXES[name]))
        assert np.array_equal(ours, expected), np.abs(ours.astype(int) - expected).max()


@pytest.mark.parametrize(
    "mode", ["no", "border", "keep_ratio", "keep_ratio_largest", "center_crop"]
)
@pytest.mark.parametrize("only", [False, True])
def test_files_are_those_of_img2dataset_where_that_is_asked_for(mode: str, only: bool) -> None:
    from img2dataset.resizer import Resizer

    how = ResizeSettings(mode, 64, "png", 6, resize_only_if_bigger=only, exact_resize=True)
    resizer = Resizer(64, mode, only, "lanczos", "area", 6, "png", blurrer=theirs())
    for body in (encoded(photograph(2), "JPEG"), encoded(photograph(3).convert("L"), "PNG")):
        file, width, height, *_ = resizer(io.BytesIO(body), BOXES["outside"])
        boxes = np.array(BOXES["outside"])
        image = examine(body)
        assert isinstance(image, Image)
        assert Encoder(how)(body, image, boxes) == (file, "png", width, height)
        fast = Encoder(dataclasses.replace(how, exact_resize=False))(body, image, boxes)
        assert np.abs(shown(fast.body) - shown(file)).mean() < 2


def shown(body: bytes) -> np.ndarray:
    return np.asarray(PillowImage.open(io.BytesIO(body)).convert("RGB")).astype(float)


def test_what_stays_as_it_came_is_encoded_anew_where_it_has_boxes() -> None:
    body, how = striped(kind="WEBP", quality=90), ResizeSettings(blur_boxes="faces")
    image = examine(body)
    assert isinstance(image, Image)
    assert Encoder(how)(body, image).body == body
    new = Encoder(how)(body, image, np.array([FACE]))
    assert (new.extension, new.width, new.height) == ("jpg", image.width, image.height)
    assert new.body[:2] == b"\xff\xd8"
    is_other = np.abs(shown(new.body) - shown(body)).mean(axis=2) > 12
    assert is_other[:, image.width // 2 + 20 :].mean() < 0.01 < is_other.mean()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_of_a_file_that_a_viewer_turns_are_turned_with_it(orientation: int) -> None:
    pixels = np.zeros((80, 160), np.uint8)
    pixels[10:60, 40:80] = 255  # the box FACE
    turn = TURNS.get(orientation)
    shown_pixels = pixels
    if turn is not None:
        shown_pixels = np.asarray(PillowImage.fromarray(pixels).transpose(turn))
    boxes = turned_boxes(np.array([FACE]), orientation)
    left, top, right, bottom = (boxes[-1] * (shown_pixels.shape[::-1] * 2)).astype(int)
    expected = np.zeros_like(shown_pixels)
    expected[top:bottom, left:right] = 255
    assert np.array_equal(shown_pixels, expected)
    assert boxes[0].tolist() == FACE  # which may be what is meant
    stored, exif = turned(orientation)
    body = encoded(stored, "JPEG", exif=exif, quality=95)
    image = examine(body)
    assert isinstance(image, Image)
    new = Encoder(ResizeSettings("no", encode_format="png", encode_quality=1))(
        body, image, np.array([FACE])
    )
    at_boxes = blurred(np.asarray(photograph()), boxes)
    assert np.abs(shown(new.body) - at_boxes).mean() < 4


@pytest.mark.parametrize(
    "odd",
    [
        *([[math.nan, 0, 1, 1]], [[None, 0, 1, 1]], [[0, 0, 1]], [[0, 0, 1, 1], [0]], [[]], [None]),
        *([[0.5, 0, 0.4, 1]], [[0, 0.5, 1, 0.4]], [[0, 0, math.inf, 1]], [[0, 0, 1e300, 1]]),
        [[12, 30, 80, 99]],
    ],
)
def test_boxes_that_cannot_be_used_are_found(odd: list[Any]) -> None:
    kind = pa.list_(pa.list_(pa.float64()))
    lists, is_bad = read_boxes(pa.array([odd, [FACE], None, [], [FACE, *odd]], kind))
    assert is_bad.tolist() == [True, False, False, False, True]
    assert [None if of is None else of.tolist() for of in lists] == [None, [FACE], None, None, None]


def test_all_boxes_of_several_lists_count_once() -> None:
    face, corner = np.array([FACE]), np.array([CORNER])
    both = joined_boxes([face, corner, face])
    assert both.tolist() == joined_boxes([np.concatenate([corner, face])]).tolist()
    assert len(both) == 2


@pytest.fixture
def blurs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The samples and the kernel of each blur."""
    calls, plain = list[tuple[int, int]](), cv2.GaussianBlur

    def counting(values: np.ndarray, kernel: tuple[int, int], sigma: float) -> np.ndarray:
        calls.append((values.size, kernel[0]))
        return plain(values, kernel, sigma)

    monkeypatch.setattr(cv2, "GaussianBlur", counting)
    return calls


def test_cost_is_bound_by_the_pixels_around_boxes(blurs: list[tuple[int, int]]) -> None:
    """Neither by the number of boxes, nor by their size times the pixels."""

    def cost(width: int, height: int, boxes: list[list[float]]) -> int:
        blurs.clear()
        pixels = np.zeros((height, width, 3), np.uint8)
        assert blurred(pixels, np.array(boxes)).shape == pixels.shape
        return sum(size * kernel for size, kernel in blurs)  # multiplications

    assert cost(900, 600, BOXES["many"] * 10) == cost(900, 600, BOXES["many"])
    corners = [[0, 0, 0.1, 0.1], [0.9, 0.9, 1, 1]]
    assert cost(4000, 4000, corners) <= 2.1 * cost(4000, 4000, corners[:1])
    huge = [[-1.0, -1.0, 2.0, 2.0]]
    assert cost(2000, 4000, huge) <= 255 * 4 * 2000 * 4000
    assert cost(4000, 4000, huge) <= 2.1 * cost(2000, 4000, huge)


def test_a_blur_wider_than_the_kernel_that_is_exact_is_near_img2datasets() -> None:
    face = np.asarray(photograph(4, 1500, 1500))
    few = [[0.02, 0.02, 0.98, 0.98]]
    difference = np.abs(blurred(face, np.array(few)).astype(int) - theirs()(face, few))
    assert difference.mean() < 1


@pytest.mark.parametrize("side", [2048, 4096])
def test_nested_diagonals_cost_no_more_than_the_image(side: int, blurs: list) -> None:
    """Of 1 px boxes: the regions around them lie in each other."""
    ends = range(320, side, 320)  # in cells that are no neighbours
    corners = [(at, end - at) for end in ends for at in range(0, end, 8)]
    boxes = np.array([[x / side, y / side, (x + 1) / side, (y + 1) / side] for x, y in corners])
    blurred(np.zeros((side, side), np.uint8), boxes)
    assert sum(size for size, _ in blurs) <= 2 * side * side
