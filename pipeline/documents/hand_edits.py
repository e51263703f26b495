"""Hand edits of a generated page outlive every later command that writes the page.

`_generated/` has the page as it was generated last. The changes that people made since
are applied to the page as it is generated now. Where both changed a line, the page tells the
dataset's facts, and the edited page is in `PAGE.before`.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Sequence
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
    if name.endswith(".json") and not _is_json(page):
        page, is_lost = new_page, True
    if is_lost:
        _set_aside(path, here, "it is generated anew")
    elif clashes:
        of = "a line" if clashes == 1 else f"{clashes} lines"
        _set_aside(path, here, f"{of} edited by hand changed in the generated page too")
    # In this order: after a kill in between, both changes agree with what is there.
    _write(path, page)
    _write(base_path, new_page)


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
    # By the place of a line in the base; before its first line, and behind its last, are places.
    places, added = {-1: -1, len(base): len(new)}, dict[int, list[bytes]]()
    for tag, start, end, at, at_end in SequenceMatcher(None, base, new).get_opcodes():
        if tag == "equal":
            places |= zip(range(start, end), range(at, at_end), strict=True)
        elif tag == "insert":
            added[start] = list(new[at:at_end])
    put_in: list[list[bytes]] = [[] for _ in range(len(new) + 1)]  # by the line that follows
    kept, present, clashes = [[line] for line in new], set(new), 0
    changes = SequenceMatcher(None, base, hand).get_opcodes()
    for tag, start, end, at, at_end in (of for of in changes if of[0] != "equal"):
        lines = list(hand[at:at_end])
        if tag == "insert":
            below = (places[n] for n in range(start, len(base) + 1) if n in places)
            place = places[start - 1] + 1 if start - 1 in places else next(below)
            put_in[place] += lines if added.get(start) != lines else []
            continue
        # Neighbours may change for different reasons.
        hunks = [[line] for line in lines] if len(lines) == end - start else [lines]
        step = (end - start) // len(hunks)
        for first, mine in zip(range(start, end, step), hunks, strict=True):
            targets = [places[n] for n in range(first, first + step) if n in places]
            if len(targets) == step:
                for target in targets:
                    kept[target] = []
                kept[targets[0]] = mine
            elif not (mine and present.issuperset(mine)):
                clashes += max(1, len(mine))
    both = zip(put_in, [*kept, []], strict=True)
    return [line for pair in both for own in pair for line in own], clashes


def _is_json(page: bytes) -> bool:
    try:
        json.loads(page)
    except (ValueError, RecursionError):
        return False
    return True


def _set_aside(path: str, page: bytes, why: str) -> None:
    _write(f"{path}.before", _EXAMPLES.sub(b"", page))
    LOG.warning("%s: %s; what it was, without its pairs, is in %s.before", path, why, path)


def _read(path: str) -> bytes:
    with open_to_read(path) as file:
        return file.read().replace(b"\r\n", b"\n")  # editors of Windows change every line's end


def _write(path: str, body: bytes) -> None:
    write_atomically(path, lambda sink: sink.write(body))
