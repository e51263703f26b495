"""Captions and URLs as they can be shown: whatever is in them, they give a terminal no commands."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

LONGEST = 1000  # characters; what is behind is not looked at
MOST_MARKS = 3  # accents on one letter; a terminal keeps a thousand in one place
ELLIPSIS = "…"


def printable(text: str) -> str:
    """A text on one line. Control characters, marks that turn the direction and the like are
    escaped; a very long text is cut, and so are heaps of accents."""
    cut = text if len(text) <= LONGEST else text[:LONGEST] + ELLIPSIS
    shown, marks = [], 0
    for character in cut:
        marks = 0 if _cells(character) else marks + 1
        if marks <= MOST_MARKS:
            shown.append(character if character.isprintable() else ascii(character)[1:-1])
    return "".join(shown)


def cells(text: str) -> int:
    """How many columns of a terminal a printable text takes."""
    return sum(map(_cells, text))


def _cells(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def fitted(text: str, width: int) -> str:
    """A text in so many columns: cut with an ellipsis, or filled up with spaces."""
    text = printable(text)
    taken = cells(text)
    if taken > width:
        kept, taken = [], 0
        for character in text:
            if taken + _cells(character) > width - 1:
                break
            kept.append(character)
            taken += _cells(character)
        text, taken = "".join(kept) + ELLIPSIS, taken + 1
    return text + " " * (width - taken)


def text_table(names: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> str:
    """Rows below the names of their columns; the last column takes what the others leave.

    Args:
      width: columns of the terminal.
    """
    most = max(12, width // 4)
    columns = list(zip(names, *rows, strict=True))[:-1]
    widths = [min(most, max(cells(printable(text)) for text in column)) for column in columns]
    widths[0] = max(widths[0], 16)  # a whole key
    last = max(10, width - sum(widths) - 2 * len(widths))
    lines = (
        "  ".join(fitted(text, size) for text, size in zip(row, [*widths, last], strict=True))
        for row in (names, *rows)
    )
    return "\n".join(line.rstrip() for line in lines)
