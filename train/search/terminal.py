"""Results as a table or as lines of JSON."""

import json
import unicodedata
from collections.abc import Sequence

from alignset.train.search.find_results import Result


def table(results: Sequence[Result], columns: int) -> list[str]:
    """A head, and a line a result: rank, cosine, key, size, caption and URL, cut to the columns."""
    lines = [f"{'':>4} {'score':>6}  {'key':<16}  {'px':<11} caption"]
    for rank, result in enumerate(results, 1):
        size = f"{result['width']}x{result['height']}"
        more = f" (and {result['folded']} like it)" if result["folded"] else ""
        url = f" <{result['url']}>" if result["url"] else ""
        text = printable(f"{result['caption']}{more}{url}")
        key = printable(result["key"])
        lines.append(
            _cut(f"{rank:>4} {result['score']:>6.3f}  {key:<16}  {size:<11} {text}", columns)
        )
    return lines


def json_lines(results: Sequence[Result]) -> str:
    """A line of JSON a result."""
    return "\n".join(
        json.dumps({"rank": rank, **result}, ensure_ascii=False)
        for rank, result in enumerate(results, 1)
    )


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
