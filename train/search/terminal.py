"""Results for a terminal: a table, and thumbnails where the terminal can draw them."""

import base64
import io
import json
import unicodedata
from collections.abc import Mapping, Sequence

from PIL import Image

from alignset.train.search.find_results import Result

_CELL_PX = (10, 20)  # of a character's cell; what terminals that draw pictures have, about
_ROWS = 6  # lines of a thumbnail
_KITTY_PIECE = 4096  # bytes of a picture that its protocol has in one escape sequence


def table(results: Sequence[Result], columns: int) -> str:
    """A line a result: rank, cosine, key, size, caption and URL, cut to so many columns."""
    lines = [f"{'':>4} {'score':>6}  {'key':<16}  {'px':<11} caption"]
    for rank, result in enumerate(results, 1):
        size = f"{result.width}x{result.height}"
        more = f" (and {result.folded} like it)" if result.folded else ""
        url = f" <{result.url}>" if result.url else ""
        text = printable(f"{result.caption}{more}{url}")
        line = f"{rank:>4} {result.score:>6.3f}  {printable(result.key):<16}  {size:<11} {text}"
        lines.append(_cut(line, columns))
    return "\n".join(lines)


def as_json(results: Sequence[Result]) -> str:
    """A line of JSON a result."""
    return "\n".join(
        json.dumps({"rank": rank, **fields_of(result)}, ensure_ascii=False)
        for rank, result in enumerate(results, 1)
    )


def fields_of(result: Result) -> dict[str, object]:
    """What is told of a result, by name."""
    return {
        "key": result.key,
        "score": result.score,
        "caption": result.caption,
        "url": result.url,
        "host": result.host,
        "width": result.width,
        "height": result.height,
        "unsafe": result.unsafe,
        "folded": result.folded,
    }


def printable(text: str) -> str:
    """One line without control characters, which a caption could move the cursor with, or turn the
    direction of a line."""
    return "".join(
        " " if character.isspace() else character
        for character in text
        if character.isspace() or unicodedata.category(character)[0] != "C"
    )


def _cut(line: str, columns: int) -> str:
    width = 0
    for at, character in enumerate(line):
        width += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if width > columns:
            return line[: max(0, at - 1)] + "…"
    return line


def drawing_for(environment: Mapping[str, str]) -> str:
    """How a terminal draws pictures: "kitty", "iterm", "blocks" or "" for not at all."""
    program, term = environment.get("TERM_PROGRAM", ""), environment.get("TERM", "")
    if "KITTY_WINDOW_ID" in environment or term == "xterm-kitty" or program == "ghostty":
        return "kitty"
    if program in ("iTerm.app", "WezTerm"):
        return "iterm"
    return "blocks" if environment.get("COLORTERM") in ("truecolor", "24bit") else ""


def draw(thumbnail: bytes, drawing: str) -> str:
    """A thumbnail as the terminal's escape sequences, 6 lines high.

    Args:
      drawing: "kitty", "iterm" or "blocks".
    """
    image = Image.open(io.BytesIO(thumbnail)).convert("RGB")
    if drawing == "blocks":
        return _blocks(image)
    image.thumbnail((4 * _ROWS * _CELL_PX[0], _ROWS * _CELL_PX[1]))
    file = io.BytesIO()
    image.save(file, "PNG")
    data = base64.standard_b64encode(file.getvalue()).decode()
    if drawing == "iterm":
        return f"\033]1337;File=inline=1;height={_ROWS};preserveAspectRatio=1:{data}\a\n"
    pieces = [data[at : at + _KITTY_PIECE] for at in range(0, len(data), _KITTY_PIECE)]
    sequences = []
    for number, piece in enumerate(pieces):
        control = f"a=T,f=100,r={_ROWS}," if number == 0 else ""
        sequences.append(f"\033_G{control}m={int(number < len(pieces) - 1)};{piece}\033\\")
    return "".join(sequences) + "\n"


def _blocks(image: Image.Image) -> str:
    """Two pixels a character: the upper half block in the one's colour, on the other's."""
    image.thumbnail((4 * _ROWS, 2 * _ROWS))
    width, height = image.size[0], image.size[1] // 2 * 2
    pixels = image.load()
    assert pixels is not None
    lines = []
    for y in range(0, height, 2):
        cells = (
            f"\033[38;2;{_rgb(pixels[x, y])};48;2;{_rgb(pixels[x, y + 1])}m▀" for x in range(width)
        )
        lines.append("".join(cells) + "\033[0m")
    return "\n".join(lines) + "\n"


def _rgb(pixel: object) -> str:
    assert isinstance(pixel, tuple)
    return ";".join(map(str, pixel))
