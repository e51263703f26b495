"""Texts of anybody's as they can be shown: whatever is in them, they give neither a terminal nor a
page commands. And counts of things."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import accumulate

LONGEST = 1000  # characters; what is behind is not looked at
MOST_MARKS = 3  # accents on one letter; a terminal keeps a thousand in one place
ELLIPSIS = "…"
_MARKS = ("Mn", "Me")  # categories of characters that take no column of a terminal


def escape_controls(text: str) -> str:
    """A text whose line breaks, and commands for a terminal, are escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def counted(number: int, thing: str, things: str = "") -> str:
    """As "1 shard", "4,000 shards" and "2 classes"."""
    return f"{number:,} {thing if number == 1 else things or f'{thing}s'}"


def printable(text: str) -> str:
    """A text on one line. Control characters, marks that turn the direction and the like are
    escaped; a very long text is cut, and so are heaps of accents."""
    short = text if len(text) <= LONGEST else text[:LONGEST] + ELLIPSIS
    characters, marks = [], 0
    for character in short:
        marks = marks + 1 if unicodedata.category(character) in _MARKS else 0
        if marks <= MOST_MARKS:
            characters.append(character if character.isprintable() else ascii(character)[1:-1])
    return "".join(characters)


def cells(text: str) -> int:
    """How many columns of a terminal a printable text takes."""
    return sum(
        1 + (unicodedata.east_asian_width(character) in ("W", "F"))
        for character in text
        if unicodedata.category(character) not in _MARKS
    )


def fitted(text: str, width: int) -> str:
    """A text in so many columns: cut with an ellipsis, or filled up with spaces."""
    text = printable(text)
    if cells(text) > width:
        ends = accumulate(map(cells, text))
        text = "".join(c for c, end in zip(text, ends, strict=True) if end < width) + ELLIPSIS
    return text + " " * (width - cells(text))


def text_table(names: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> str:
    """Rows below the names of their columns; the last column takes what the others leave.

    Args:
      width: columns of the terminal.
    """
    max_width = max(12, width // 4)
    columns = list(zip(names, *rows, strict=True))[:-1]
    widths = [min(max_width, max(cells(printable(text)) for text in column)) for column in columns]
    widths[0] = max(widths[0], 16)  # a whole key
    last = max(10, width - sum(widths) - 2 * len(widths))
    lines = (
        "  ".join(fitted(text, size) for text, size in zip(row, [*widths, last], strict=True))
        for row in (names, *rows)
    )
    return "\n".join(line.rstrip() for line in lines)


def format_code(text: str) -> str:
    """A text as code within a line of Markdown, whatever it is."""
    plain = "".join(c if c.isprintable() else "?" for c in text)
    fence = "`"
    while fence in plain:
        fence += "`"
    pad = " " if plain[:1] in ("`", " ") or plain[-1:] in ("`", " ") else ""
    return f"{fence}{pad}{plain}{pad}{fence}"


def format_cell(text: str) -> str:
    """A text within a table of Markdown, where a bar would end its cell, in code too."""
    return text.replace("\n", " ").replace("|", "\\|")


def core_time(core_s: float) -> str:
    """As "12 core-seconds", "3 core-minutes", "1.4 core-hours", "35,200 core-hours"."""
    for unit, unit_s in (("hour", 3600), ("minute", 60), ("second", 1)):
        if core_s >= unit_s or unit == "second":
            break
    amount = core_s / unit_s
    number = f"{amount:.1f}" if unit == "hour" and amount < 10 else f"{max(1, round(amount)):,}"
    return f"{number} core-{unit}{'' if number == '1' else 's'}"
