"""Copies of evaluation images beside these, as far as a test can see them."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from alignset.pipeline.look.evaluation_pictures import LABELS, NOT_THERE, overlap_pictures
from alignset.pipeline.look.fonts import PILLOWS_OWN, font
from alignset.pipeline.look.sample import Overlap, Pair
from alignset.pipeline.look.sheet import EMPTY, FAINT, PICTURE_BOX, SMALL_PX
from alignset.transforms.decontamination.overlap_settings import EvaluationFile
from tests.support.picture_files import encoded

RED, BLUE = (220, 30, 30), (30, 30, 220)


def of_copy() -> Pair:
    thumbnail = encoded(Image.new("RGB", (96, 64), RED), "PNG")
    overlap = Overlap("exam", "1.png", 0.1, thumbnail)
    return Pair("0" * 16, "http://a.example/x", "text", "evaluation_overlap", "", "", "", overlap)


def drawn(text: str) -> np.ndarray:
    """bool[h, w]: a text's ink alone."""
    page = Image.new("RGB", PICTURE_BOX, EMPTY)
    ImageDraw.Draw(page).text((4, 4), text, FAINT, font(PILLOWS_OWN, SMALL_PX))
    return inked(page)


def inked(page: Image.Image) -> np.ndarray:
    ink = (np.asarray(page) != np.asarray(Image.new("RGB", (1, 1), EMPTY))).any(axis=2)
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def test_each_half_says_what_it_is(tmp_path: Path) -> None:
    image = tmp_path / "1.png"
    image.write_bytes(encoded(Image.new("RGB", (64, 96), BLUE), "PNG"))
    (both,) = overlap_pictures([of_copy()], [EvaluationFile("exam", str(image))])
    assert isinstance(both, Image.Image)
    middle = PICTURE_BOX[0] // 2
    for left, label, colour in ((0, LABELS[0], RED), (middle, LABELS[1], BLUE)):
        half = both.crop((left, 0, left + middle, PICTURE_BOX[1]))
        above = half.crop((0, 0, middle, 20))
        assert (inked(above) == drawn(label)).all()
        below = np.asarray(half)[20:].reshape(-1, 3)
        near = np.abs(below.astype(int) - colour).max(axis=1) < 9
        assert near.sum() > 60 * 60
        assert not (np.abs(below.astype(int) - colour[::-1]).max(axis=1) < 9).any()


def test_an_evaluation_image_that_is_gone_is_told() -> None:
    (both,) = overlap_pictures([of_copy()], [EvaluationFile("exam", "/nowhere/1.png")])
    assert isinstance(both, Image.Image)
    below = both.crop((PICTURE_BOX[0] // 2, 20, *PICTURE_BOX))
    assert (inked(below) == drawn(NOT_THERE)).all()
