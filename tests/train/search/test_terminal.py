"""What a terminal is given: nothing that a caption could steer it by."""

import io

import pytest
from PIL import Image

from alignset.train.search.find_results import Result
from alignset.train.search.terminal import draw, drawing_for, printable, table

RESULT = Result(
    0, "0123456789abcdef", 0.5, "a dog\x1b[31m\r\n\u202ewith\tsnow", "", "", 640, 480, False, 2
)


def test_a_line_a_result_within_the_columns() -> None:
    lines = table([RESULT, RESULT._replace(caption="犬" * 200)], 80).splitlines()
    assert len(lines) == 3
    assert "a dog[31m  with snow (and 2 like it)" in lines[1]
    assert lines[2].endswith("…")
    assert len(lines[2]) < 70  # wide letters take two columns


def test_nothing_but_text_is_printed() -> None:
    assert printable("a\x00\x1b]0;x\x07b\u2028c\u200bd") == "a]0;xb cd"


@pytest.mark.parametrize(
    ("environment", "drawing"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM_PROGRAM": "iTerm.app"}, "iterm"),
        ({"COLORTERM": "truecolor"}, "blocks"),
        ({"TERM": "dumb"}, ""),
    ],
)
def test_terminals_are_told_apart(environment: dict[str, str], drawing: str) -> None:
    assert drawing_for(environment) == drawing


def test_thumbnails_are_drawn() -> None:
    file = io.BytesIO()
    Image.new("RGB", (256, 128), (255, 0, 0)).save(file, "WEBP")
    blocks = draw(file.getvalue(), "blocks")
    assert blocks.count("\n") == 6
    assert blocks.count("▀") == 6 * 24
    assert draw(file.getvalue(), "kitty").startswith("\033_Ga=T,f=100")
    assert draw(file.getvalue(), "iterm").startswith("\033]1337;File=")
