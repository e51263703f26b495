"""The image, as far as a test can see it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw

from alignset.pipeline.look import sheet
from alignset.pipeline.look.sample import Overlap, Pair
from alignset.pipeline.look.sheet import (
    BACKGROUND,
    CARD_WIDTH,
    EMPTY,
    FAINT,
    GAP,
    LABELS,
    MARGIN,
    NOT_THERE,
    PICTURE_BOX,
    PILLOWS_OWN,
    SMALL_PX,
    boxes_note,
    draw_sheet,
    font,
    font_for,
    is_right_to_left,
    lines,
    overlap_pictures,
)
from alignset.transforms.decontamination.overlap_settings import EvaluationFile
from tests.support.picture_files import encoded

TEXTS = [
    "a red dog",
    "",
    "قطة على سجادة",
    "猫の写真",
    "\x1b[31m \u202e",
    "W" * 999,
    "z" + "\u0301" * 99,
]


def pair(text: str, why: str = "") -> Pair:
    return Pair("0123456789abcdef", "http://a.example/x", text, why, "", "640x480", "a.parquet")


@pytest.mark.parametrize("count", [1, 3, 5, 6, 20])
def test_margins_are_even_on_all_sides(count: int):
    red = Image.new("RGB", PICTURE_BOX, "red")
    pairs = [pair("a text") for _ in range(count)]
    page = draw_sheet("OUT", "of it", pairs, [red] * count)
    pixels = np.asarray(page)
    drawn = (pixels != np.asarray(Image.new("RGB", (1, 1), BACKGROUND))[0, 0]).any(axis=2)
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    assert page.height - 1 - rows[-1] == MARGIN
    assert MARGIN - 4 <= rows[0] <= MARGIN + 8
    assert columns[0] == MARGIN
    if count >= 5:
        assert page.width - 1 - columns[-1] == MARGIN
    assert page.width == 2 * MARGIN + max(3, min(5, count)) * (CARD_WIDTH + GAP) - GAP
    assert (pixels == (255, 0, 0)).all(axis=2).sum() > count * 0.98 * np.prod(PICTURE_BOX)


def test_whatever_the_texts_are_it_is_the_same_picture_twice():
    pairs = [pair(text, why) for text in TEXTS for why in ("", "too_small\x07")]
    why_none = ["no image is stored", "broken \x1b"] * len(TEXTS)
    pages = [draw_sheet("x" * 5000, "\u202e", pairs, why_none) for _ in range(2)]
    assert pages[0].tobytes() == pages[1].tobytes()


def test_cards_without_any_picture_are_low():
    heights = [
        draw_sheet("OUT", "", [pair("text")], [picture]).height
        for picture in ("none", Image.new("RGB", (9, 9)))
    ]
    assert heights[0] < heights[1]


def test_lines_keep_to_the_width_and_say_where_they_are_cut():
    face = font("", 16)
    broken = lines("a photo of a red dog in the garden " * 9, face, 200, 3)
    assert len(broken) == 3
    assert max(face.getlength(line) for line in broken) <= 200
    assert broken[-1].endswith("…")
    assert lines("a red dog", face, 200, 3) == ["a red dog"]
    assert lines("", face, 200, 3) == [""]
    long = lines("x" * 60, face, 200, 9)
    assert "".join(long) == "x" * 60
    assert len(long) > 1


def test_a_font_is_found_for_every_text_or_boxes_are_drawn():
    for text in TEXTS:
        assert font_for(text, 16).getlength(text[:9].strip("\x1b")) >= 0
    assert font_for("a red dog", 16) is font("", 16)


def test_european_letters_get_a_font_and_letters_without_one_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dejavu = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    asked: list[str] = []

    def answer(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command[-1])
        return subprocess.CompletedProcess(command, 0, str(dejavu), "")

    monkeypatch.setattr(subprocess, "run", answer)
    sheet.system_font.cache_clear()
    european = ["El callejón de otoño – ¿qué? ¡sí!", "Łódź, Straße, Übergrößen", "5 €"]
    assert {getattr(font_for(text, 16), "path", "") for text in european} == {str(dejavu)}
    assert asked[0] == ":charset=61 aa 2071"
    assert boxes_note(european) == ""
    assert boxes_note(["a red dog 😀"]) == ""
    note = boxes_note([*european, "猫と犬"])
    assert note.startswith("letters such as と 犬 猫 are drawn as boxes")
    assert "fonts-noto-cjk" in note
    monkeypatch.setattr(sheet, "system_font", lambda _: PILLOWS_OWN)
    assert boxes_note(["otoño"]).startswith("letters such as ñ are drawn as boxes")


@pytest.fixture(autouse=True)
def fonts_found_anew() -> Iterator[None]:
    yield
    sheet.system_font.cache_clear()


def test_leftward_texts_are_known():
    assert [is_right_to_left(text) for text in ("قطة", "12 שלום", "a قطة", "", "12")] == [
        *(True, True, False, False, False)
    ]


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
    for left, label, colour in ((0, LABELS[True][0], RED), (middle, LABELS[True][1], BLUE)):
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
