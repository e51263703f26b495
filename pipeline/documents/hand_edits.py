"""Hand edits of a generated page outlive every later command that writes the page.

`_generated/` has the page as it was generated last. A later command compares both pages with it: a
line that a person changed stays, and a line that the dataset changed is written anew.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import BinaryIO

from alignset.transforms.storage.files import exists, open_to_read, write_atomically

LOG = logging.getLogger("alignset")

GENERATED = "_generated"
# Matching takes time that grows with the square of the lines: 1.9 s for 2,500. A card has 250.
MOST_LINES = 2_000
# Pairs that a card shows, each on a line: one may have left the dataset since.
_EXAMPLES = re.compile(rb"^\{\"key\": .*\n?", re.MULTILINE)


def write_page(out: str, name: str, new_page: bytes) -> None:
    """Writes a page of a dataset, with the edits that people made in the one that is there.

    Args:
      out: the dataset's folder. new_page: the page as it is generated now.
    """
    path, base_path = f"{out}/{name}", f"{out}/{GENERATED}/{name}"
    page = new_page
    if exists(path):
        here = _read(path)
        base = _read(base_path) if exists(base_path) else None
        if base is None or max(here.count(b"\n"), base.count(b"\n")) > MOST_LINES:
            if here != new_page:
                _write(f"{path}.before", _EXAMPLES.sub(b"", here))
                LOG.warning(
                    "%s is generated anew; what it was, without its pairs, is in %s.before",
                    *(path, name),
                )
        else:
            result, clashes = merge(*(text.splitlines(True) for text in (base, here, new_page)))
            page = b"".join(result)
            if clashes:
                LOG.warning(
                    "%s: %s edited by hand have changed in the generated page too; the edits stay. "
                    "The generated page is %s",
                    *(path, "1 line" if clashes == 1 else f"{clashes} lines", base_path),
                )
    # In this order: after a kill in between, both changes agree with what is there.
    _write(path, page)
    _write(base_path, new_page)


def merge(
    base: Sequence[bytes], hand_lines: Sequence[bytes], new_lines: Sequence[bytes]
) -> tuple[list[bytes], int]:
    """Both changes of a text, by lines; where they clash, the edit.

    Returns:
      The lines, and how many of them clash.
    """
    result: list[bytes] = []
    clashes = 0
    for old, hand, new in _pieces(base, hand_lines, new_lines):
        if len(old) == len(hand) == len(new):  # neighbours that changed for different reasons
            lines = [(h if o != h else n) for o, h, n in zip(old, hand, new, strict=True)]
            clashes += sum(len({*three}) == 3 for three in zip(old, hand, new, strict=True))
            result += lines
        elif hand in (old, new):
            result += new
        else:
            result += hand
            clashes += len(hand) if new != old else 0
    return result, clashes


def _pieces(
    base: Sequence[bytes], hand_lines: Sequence[bytes], new_lines: Sequence[bytes]
) -> Iterator[tuple[list[bytes], list[bytes], list[bytes]]]:
    """The three texts in pieces that belong together; every other piece is equal in all."""
    lines = zip(_places(base, hand_lines), _places(base, new_lines), strict=True)
    at = (0, 0, 0)
    for i, (j, k) in enumerate([*lines, (len(hand_lines), len(new_lines))]):
        if j is None or k is None:
            continue
        yield list(base[at[0] : i]), list(hand_lines[at[1] : j]), list(new_lines[at[2] : k])
        yield (list(base[i : i + 1]),) * 3
        at = (i + 1, j + 1, k + 1)


def _places(base: Sequence[bytes], other: Sequence[bytes]) -> list[int | None]:
    """Where each line of the first text is in the other, None where it is not."""
    places: list[int | None] = [None] * len(base)
    blocks = difflib.SequenceMatcher(None, base, other, autojunk=False).get_matching_blocks()
    for start, place, size in blocks:
        places[start : start + size] = range(place, place + size)
    return places


def _read(path: str) -> bytes:
    with open_to_read(path) as file:
        return file.read().replace(b"\r\n", b"\n")  # editors of Windows change every line's end


def _write(path: str, body: bytes) -> None:
    write_atomically(path, partial(_put, body))


def _put(body: bytes, sink: BinaryIO) -> None:
    sink.write(body)
