"""The contact sheet: a grid of cards, each with a pair's picture and what is known of the pair."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from alignset.pipeline.datasets.plain_text import printable
from alignset.pipeline.look.fonts import font_for, is_right_to_left, lines
from alignset.pipeline.look.sample import Pair

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


def draw_sheet(
    title: str, subtitle: str, pairs: Sequence[Pair], pictures: Sequence[Picture]
) -> Image.Image:
    """The sheet of some pairs.

    Args:
      pictures: of each pair, no larger than PICTURE_BOX; or why there is none.
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
    shown = printable(text)[:MOST_DRAWN]
    face = font_for(shown, size_px)
    x, y = place
    for line in lines(shown, face, width, most):
        if is_right_to_left(shown):
            draw.text((x + width, y), line, colour, face, anchor="ra")
        else:
            draw.text((x, y), line, colour, face)
        y += _line(size_px)
    return y
