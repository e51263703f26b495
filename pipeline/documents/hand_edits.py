"""Hand edits of a generated page outlive every later command that writes the page.

`_generated/` has the page as it was generated last. The changes that people made since
are applied to the page as it is generated now. Where both changed a line, the page tells the
dataset's facts, and the edited page is in `PAGE.before`.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

from alignset.transforms.storage.files import exists, open_to_read, remove, write_atomically

LOG = logging.getLogger("alignset")

GENERATED = "_generated"
# Pairs that a card shows, each on a line: one may have left the dataset since.
_EXAMPLES = re.compile(rb"^\{\"key\": .*\n?", re.MULTILINE)


def write_page(out: str, name: str, new_page: bytes) -> None:
    """Writes a page of a dataset, with the edits that people made in the one that is there.

    Args:
      out: the dataset's folder. new_page: the page as it is generated now.
    """
    path, base_path = f"{out}/{name}", f"{out}/{GENERATED}/{name}"
    here = _read(path) if exists(path) else new_page
    base = _read(base_path) if exists(base_path) else None
    page, clashes = new_page, 0
    if base is not None:
        lines, clashes = merge(*(text.splitlines(True) for text in (base, here, new_page)))
        page = b"".join(lines)
    is_lost = base is None and here != new_page
    try:
        json.loads(page if name.endswith(".json") else b"0")
    except (ValueError, RecursionError):
        page, is_lost = new_page, True
    if is_lost:
        _set_aside(path, here, "it is generated anew")
    elif clashes:
        of = "a line" if clashes == 1 else f"{clashes} lines"
        _set_aside(path, here, f"{of} edited by hand changed in the generated page too")
    # In this order: after a kill in between, both changes agree with what is there.
    write_atomically(path, page)
    write_atomically(base_path, new_page)


def drop_page(out: str, name: str) -> None:
    """Removes a page that earlier versions wrote; where people edited it, it is `PAGE.before`."""
    path, base_path = f"{out}/{name}", f"{out}/{GENERATED}/{name}"
    if exists(path) and not (exists(base_path) and _read(path) == _read(base_path)):
        _set_aside(path, _read(path), "it is not written any more")
    remove(path)
    remove(base_path)


def merge(
    base: Sequence[bytes], hand: Sequence[bytes], new: Sequence[bytes]
) -> tuple[list[bytes], int]:
    """Applies the hand's changes of a text to its new version, by lines; where both changed a line,
    the new one stays.

    Lines that are put in never clash with a change of other lines. Both stay:

    >>> merge([b"a", b"b"], [b"a", b"by hand", b"b"], [b"a", b"B"])
    ([b'a', b'by hand', b'B'], 0)

    Returns:
      The lines, and how many lines of the hand's clash.
    """
    if hand in (base, new):
        return list(new), 0
    # By the line of the base: what is put in before it, and what stands in its place.
    before: list[list[bytes]] = [[] for _ in range(len(base) + 1)]
    lines, clashes = [[line] for line in base], 0
    for start, end, generated in _hunks(base, new):
        if start == end:
            before[start] = generated
        else:
            lines[start:end] = [generated, *([] for _ in range(start + 1, end))]
    merged = [list(line) for line in lines]
    for start, end, own in _hunks(base, hand):
        if start == end:
            before[start] = before[start] + own * (own != before[start])
        elif all(lines[n] == [base[n]] for n in range(start, end)):
            merged[start:end] = [own, *([] for _ in range(start + 1, end))]
        elif not (own and set(own) <= {*new}):
            clashes += max(1, len(own))
    both = zip(before, [*merged, []], strict=True)
    return [line for pair in both for part in pair for line in part], clashes


def _hunks(base: Sequence[bytes], text: Sequence[bytes]) -> Iterator[tuple[int, int, list[bytes]]]:
    """Yields the changes of a base: which of its lines, from and to, have become which lines."""
    for tag, start, end, at, at_end in SequenceMatcher(None, base, text).get_opcodes():
        lines = list(text[at:at_end])
        if len(lines) == end - start:  # neighbours may change for different reasons
            yield from ((n, n + 1, [line]) for n, line in enumerate(lines, start) if tag != "equal")
        else:
            yield start, end, lines


def _set_aside(path: str, page: bytes, why: str) -> None:
    write_atomically(f"{path}.before", _EXAMPLES.sub(b"", page))
    LOG.warning("%s: %s; what it was, without its pairs, is in %s.before", path, why, path)


def _read(path: str) -> bytes:
    with open_to_read(path) as file:
        return file.read().replace(b"\r\n", b"\n")  # editors of Windows change every line's end
