"""The contact sheet: a grid of cards, each with a pair's image and what is known of the pair."""

from __future__ import annotations

import subprocess
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import PurePosixPath
from textwrap import wrap

from PIL import Image, ImageDraw, ImageFont

from alignset.pipeline.datasets.stored_images import shown_picture
from alignset.pipeline.look.sample import Overlap, Pair
from alignset.pipeline.shown_texts import printable
from alignset.transforms.decontamination.evaluation_files import find_images, set_folders
from alignset.transforms.decontamination.overlap_settings import EvaluationFile

COLUMNS = 5
MARGIN, GAP, PADDING = 32, 16, 12  # px
CARD_WIDTH, PICTURE_HEIGHT = 288, 216
PICTURE_BOX = CARD_WIDTH, PICTURE_HEIGHT
BACKGROUND, CARD, EMPTY, BORDER = "#f4f6f8", "#ffffff", "#e8ecf0", "#d3dae1"
INK, FAINT, DROPPED = "#1f2933", "#66727f", "#b3352d"
CAPTION_PX, SMALL_PX, TITLE_PX = 16, 13, 26
CAPTION_LINES, LINES_WITHOUT_PICTURE = 3, 6
MOST_DRAWN = 400  # characters of a text; no card holds more

Picture = Image.Image | str  # or why there is none

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
PILLOWS_OWN = ""  # ASCII, and not much more
_BEYOND_ASCII = 0x80  # characters from here on need another font
_NO_LETTER = "\U0010ffff"  # drawn as every letter that a font lacks
_MOST_BLOCKS = 4  # alphabets of a text that the system is asked for

# Copies of evaluation images, each beside the evaluation image.
_GAP_PX = 4
_LINE = 24  # characters that go into a half
_LABEL_PX = 20  # of height, above each half
HALF_BOX = (PICTURE_BOX[0] - _GAP_PX) // 2, PICTURE_BOX[1] - _LABEL_PX
LABELS = {True: ("dropped", "evaluation image"), False: ("in the dataset", "listed")}
NOT_THERE = "its file is not there"
NOT_NAMED = "--eval_images shows it"


def draw_sheet(
    title: str, subtitle: str, pairs: Sequence[Pair], pictures: Sequence[Picture]
) -> Image.Image:
    """The sheet of some pairs.

    Args:
      pictures: the image of each pair, no larger than PICTURE_BOX; or why there is none.
    """
    columns = min(COLUMNS, max(3, len(pairs)))
    with_pictures = any(isinstance(picture, Image.Image) for picture in pictures)
    cards = [
        _card(pair, picture, with_pictures) for pair, picture in zip(pairs, pictures, strict=True)
    ]
    height = cards[0].height
    rows = -(-len(cards) // columns)
    top = MARGIN + 84
    width = 2 * MARGIN + columns * CARD_WIDTH + (columns - 1) * GAP
    page = Image.new("RGB", (width, top + rows * (height + GAP) - GAP + MARGIN), BACKGROUND)
    draw = ImageDraw.Draw(page)
    _write(draw, title, (MARGIN, MARGIN - 4), width - 2 * MARGIN, 1, TITLE_PX, INK)
    _write(draw, subtitle, (MARGIN, MARGIN + 34), width - 2 * MARGIN, 1, CAPTION_PX, FAINT)
    for number, card in enumerate(cards):
        row, column = divmod(number, columns)
        page.paste(card, (MARGIN + column * (CARD_WIDTH + GAP), top + row * (height + GAP)))
    return page


def _card(pair: Pair, picture: Picture, with_pictures: bool) -> Image.Image:
    """A card; cut at its edges, whatever the texts make a font draw."""
    most = CAPTION_LINES if with_pictures else LINES_WITHOUT_PICTURE
    top = PICTURE_HEIGHT if with_pictures else 0
    height = top + 2 * PADDING + most * _line(CAPTION_PX) + 2 * _line(SMALL_PX)
    card = Image.new("RGB", (CARD_WIDTH, height), CARD)
    draw = ImageDraw.Draw(card)
    width = CARD_WIDTH - 2 * PADDING
    if isinstance(picture, Image.Image):
        draw.rectangle((0, 0, CARD_WIDTH, top), EMPTY)
        place = (CARD_WIDTH - picture.width) // 2, (top - picture.height) // 2
        card.paste(picture, place)
    elif with_pictures:
        draw.rectangle((0, 0, CARD_WIDTH, top), EMPTY)
        _write(draw, picture, (PADDING, top // 2 - 20), width, 3, SMALL_PX, FAINT)
    y = top + PADDING
    if pair.why:
        y = _write(draw, pair.why, (PADDING, y), width, 1, CAPTION_PX, DROPPED)
        y, most = y + 3, most - 1
    _write(draw, pair.caption or "(no text)", (PADDING, y), width, most, CAPTION_PX, INK)
    y = height - PADDING - 2 * _line(SMALL_PX) + 4
    distance = f"distance {pair.overlap.distance:.3g}" if pair.overlap else ""
    about = "  ·  ".join(filter(None, (distance, pair.size, pair.host or pair.url)))
    y = _write(draw, about, (PADDING, y), width, 1, SMALL_PX, FAINT)
    _write(draw, pair.key, (PADDING, y), width, 1, SMALL_PX, FAINT)
    draw.rectangle((0, 0, CARD_WIDTH - 1, height - 1), outline=BORDER)
    return card


def _line(size_px: int) -> int:
    return size_px * 5 // 4 + 1


def _write(
    draw: ImageDraw.ImageDraw,
    text: str,
    place: tuple[int, int],
    width: int,
    most: int,
    size_px: int,
    colour: str,
) -> int:
    """Writes a text in so many lines at most, px; returns where the next line begins."""
    one_line = printable(text)[:MOST_DRAWN]
    face = font_for(one_line, size_px)
    x, y = place
    for line in lines(one_line, face, width, most):
        if is_right_to_left(one_line):
            draw.text((x + width, y), line, colour, face, anchor="ra")
        else:
            draw.text((x, y), line, colour, face)
        y += _line(size_px)
    return y


def overlap_pictures(pairs: Sequence[Pair], files: Sequence[EvaluationFile]) -> list[Picture]:
    """The image of each pair at the left, and the evaluation image or the listed one at the right,
    with what they are above them.

    Args:
      pairs: with their overlap. files: of the evaluation images; none shows the dropped ones alone.
    """
    bodies = _evaluation_bodies(pairs, files)
    missing = NOT_THERE if files else NOT_NAMED
    return [_both_pictures(pair.overlap, bodies, missing, bool(pair.reason)) for pair in pairs]


def _both_pictures(
    overlap: Overlap | None, bodies: dict[tuple[str, str], bytes], missing: str, is_dropped: bool
) -> Picture:
    if overlap is None or not overlap.thumbnail:
        return "no image is stored"
    body = bodies.get((overlap.of_set, overlap.name))
    evaluation = shown_picture(body, HALF_BOX) if body else missing
    return beside(overlap.thumbnail, evaluation, LABELS[is_dropped])


def beside(thumbnail: bytes, other: Picture, labels: tuple[str, str]) -> Picture:
    """The image of one image at the left, and another at the right, no larger than HALF_BOX, each
    with a label."""
    first = shown_picture(thumbnail, HALF_BOX)
    both = Image.new("RGB", PICTURE_BOX, EMPTY)
    draw, face = ImageDraw.Draw(both), font(PILLOWS_OWN, SMALL_PX)
    for at, (picture, title) in enumerate(zip((first, other), labels, strict=True)):
        left_px = at * (HALF_BOX[0] + _GAP_PX)
        middle = left_px + HALF_BOX[0] // 2
        draw.text((middle, 3), title, FAINT, face, anchor="ma")
        if isinstance(picture, Image.Image):
            x = left_px + (HALF_BOX[0] - picture.width) // 2
            y = (HALF_BOX[1] - picture.height) // 2
            both.paste(picture, (x, _LABEL_PX + y))
        else:
            lines = "\n".join(wrap(picture, _LINE))
            draw.text((middle, PICTURE_BOX[1] // 2), lines, FAINT, face, anchor="mm")
    return both


def _evaluation_bodies(
    pairs: Sequence[Pair], files: Sequence[EvaluationFile]
) -> dict[tuple[str, str], bytes]:
    """The files of the evaluation images that are there, by set and name."""
    folders = set_folders([(file.name, file.path) for file in files])
    paths = {(file.name, file.path.removeprefix(folders[file.name])): file.path for file in files}
    names_by_file: dict[tuple[str, str], list[str]] = {}  # names within a file, by the file
    for overlap in {pair.overlap for pair in pairs if pair.overlap}:
        for of_file, name in _ways_to_read(overlap.name):
            if (overlap.of_set, of_file) in paths:
                names_by_file.setdefault((overlap.of_set, of_file), []).append(name)
                break
    bodies: dict[tuple[str, str], bytes] = {}
    for (of_set, of_file), names in names_by_file.items():
        try:
            images = find_images(paths[of_set, of_file], names)
        except Exception:  # gone, or broken since: the other half of the image is shown
            continue
        for name, body in images.items():
            bodies[of_set, f"{of_file}/{name}" if name else of_file] = body
    return bodies


def _ways_to_read(name: str) -> list[tuple[str, str]]:
    """A file and a name within it, for each way to divide an evaluation image's name."""
    parents = [str(parent) for parent in PurePosixPath(name).parents][:-1]
    return [(name, ""), *((parent, name[len(parent) + 1 :]) for parent in parents)]


@cache
def font(path: str, size_px: int) -> Font:
    """A font by its path."""
    if path == PILLOWS_OWN:
        return ImageFont.load_default(size_px)
    return ImageFont.truetype(path, size_px)


def font_for(text: str, size_px: int) -> Font:
    """A font for the letters of a text. Missing letters are drawn as boxes."""
    blocks = sorted({ord(c) >> 7 for c in text if ord(c) >= _BEYOND_ASCII})
    blocks = [block for block in blocks if _first_letter(block)]
    return font(system_font(tuple(blocks[:_MOST_BLOCKS])) if blocks else PILLOWS_OWN, size_px)


def boxes_note(texts: Iterable[str]) -> str:
    """A sentence on the letters of texts that are drawn as boxes; "" where none is."""
    missing: dict[str, None] = {}
    for text in texts:
        one_line = printable(text)[:MOST_DRAWN]
        face = font_for(one_line, CAPTION_PX)
        box = _drawn(face, _NO_LETTER)
        letters = {c for c in one_line if ord(c) >= _BEYOND_ASCII and c.isalpha()}
        missing |= dict.fromkeys(c for c in sorted(letters) if _drawn(face, c) == box)
    if not missing:
        return ""
    return (
        f"letters such as {' '.join([*missing][:5])} are drawn as boxes, for no font here has "
        "them: install fonts-noto-cjk for Chinese, Japanese and Korean, fonts-dejavu for European "
        "languages, or fonts-noto-core for others"
    )


def _drawn(face: Font, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = face.getmask(letter)
    return mask.size, bytes(mask)


@cache
def _first_letter(block: int) -> str:
    """The first letter of a block of 128 characters; "" where it has none."""
    return next(filter(str.isalpha, map(chr, range(128 * block, 128 * block + 128))), "")


@cache
def system_font(blocks: tuple[int, ...]) -> str:
    """The path of a font for Latin and some blocks of 128 characters, by fontconfig or by a usual
    name."""
    charset = " ".join(f"{ord(letter):x}" for letter in ("a", *map(_first_letter, blocks)))
    command = ["fc-match", "--format=%{file}", f":charset={charset}"]
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        best = process.stdout
    except (OSError, subprocess.TimeoutExpired):
        best = ""
    for name in filter(None, (best, "DejaVuSans.ttf")):
        try:
            font(name, SMALL_PX)
        except OSError:
            continue
        return name
    return PILLOWS_OWN


def is_right_to_left(text: str) -> bool:
    """Whether a text's first letter with a direction is of a script that is written leftwards."""
    kinds = (unicodedata.bidirectional(c) for c in text)
    return next((kind for kind in kinds if kind in ("L", "R", "AL")), "L") != "L"


def lines(text: str, face: Font, width_px: float, most: int) -> list[str]:
    """A text in so many lines at most; where it is longer, the last one ends in an ellipsis."""
    words = [part for word in text.split() for part in _parts(word, face, width_px)]
    rows = [""]
    for is_joined, word in words:
        longer = f"{rows[-1]}{'' if is_joined or not rows[-1] else ' '}{word}"
        if not rows[-1] or face.getlength(longer) <= width_px:
            rows[-1] = longer
        elif len(rows) == most:
            return [*rows[:-1], _cut(rows[-1] + " " + word, face, width_px)]
        else:
            rows.append(word)
    return rows


def _parts(word: str, face: Font, width_px: float) -> Iterator[tuple[bool, str]]:
    """Yields the word, or its characters where no line holds it: (whether it joins the one before
    it, text)."""
    if face.getlength(word) <= width_px:
        yield False, word
        return
    yield from ((place > 0, character) for place, character in enumerate(word))


def _cut(text: str, face: Font, width_px: float) -> str:
    while text and face.getlength(f"{text} …") > width_px:
        text = text[:-1]
    return f"{text} …"
