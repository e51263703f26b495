"""Hand edits of a generated page outlive every later command that writes the page.

`_generated/` has the page as it was generated last. A later command compares both pages with it: a
line that a person changed stays, and a line that the dataset changed is written anew. Where both
changed one line, the page tells the dataset's facts, and the edited page is in `PAGE.before`.
"""

from __future__ import annotations

import json
import logging
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import BinaryIO

from alignset.transforms.storage.files import exists, open_to_read, remove, write_atomically

LOG = logging.getLogger("alignset")

GENERATED = "_generated"
_DEPTH = 8  # how often what is between lines that occur once is compared by itself
# Pairs that a card shows, each on a line: one may have left the dataset since.
_EXAMPLES = re.compile(rb"^\{\"key\": .*\n?", re.MULTILINE)

Lines = Sequence[bytes]


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
        clashes = 0
        if base is not None:
            result, clashes = merge(*(text.splitlines(True) for text in (base, here, new_page)))
            page = b"".join(result)
        if base is None or (name.endswith(".json") and not _is_json(page)):
            page = new_page
            if here != new_page:
                _write(f"{path}.before", _EXAMPLES.sub(b"", here))
                LOG.warning(
                    "%s is generated anew; what it was, without its pairs, is in %s.before",
                    *(path, name),
                )
        elif clashes:
            _write(f"{path}.before", _EXAMPLES.sub(b"", here))
            LOG.warning(
                "%s: %s edited by hand have changed in the generated page too, and are generated "
                "anew; the edited page is in %s.before",
                *(path, "1 line" if clashes == 1 else f"{clashes} lines", name),
            )
    # In this order: after a kill in between, both changes agree with what is there.
    _write(path, page)
    _write(base_path, new_page)


def drop_page(out: str, name: str) -> None:
    """Removes a page that earlier versions wrote; where people edited it, it is `PAGE.before`."""
    path, base_path = f"{out}/{name}", f"{out}/{GENERATED}/{name}"
    if exists(path) and not (exists(base_path) and _read(path) == _read(base_path)):
        _write(f"{path}.before", _read(path))
        LOG.warning("%s is not written any more; as you edited it, it is %s.before", path, name)
    remove(path)
    remove(base_path)


def merge(base: Lines, hand_lines: Lines, new_lines: Lines) -> tuple[list[bytes], int]:
    """Merges both changes of a text, by lines, in linear time; where they clash, the generated one.

    Lines that are put in never clash with a change of other lines. Both stay:

    >>> merge([b"a", b"b"], [b"a", b"by hand", b"b"], [b"a", b"B"])
    ([b'a', b'by hand', b'B'], 0)

    Returns:
      The lines, and how many lines of the hand's clash.
    """
    hand, new = _Change(base, hand_lines), _Change(base, new_lines)
    result: list[bytes] = []
    clashes = at = 0
    while True:
        result += hand.insertions.get(at, [])
        if new.insertions.get(at) != hand.insertions.get(at):
            result += new.insertions.get(at, [])
        if at == len(base):
            return result, clashes
        end = at + 1
        place = at
        while place < end:  # up to where no change of either goes on
            end = max(end, hand.ends.get(place, 0), new.ends.get(place, 0))
            place += 1
        by_hand, generated = hand.lines(at, end), new.lines(at, end)
        old = list(base[at:end])
        if by_hand in (old, generated):
            result += generated
        elif generated == old:
            result += by_hand
        else:
            result += generated
            clashes += max(len(by_hand), 1)
        for place in range(at + 1, end):
            result += [*hand.insertions.get(place, []), *new.insertions.get(place, [])]
        at = end


class _Change:
    """The lines of a text that differ from another's.

    Attributes:
      insertions: lines put in, by the place before which they are.
      ends: where the changed lines end that begin at a place.
    """

    def __init__(self, base: Lines, other: Lines) -> None:
        self._base = base
        self.insertions: dict[int, Lines] = {}
        self.ends: dict[int, int] = {}
        self._changed: dict[int, Lines] = {}
        for start, end, lines in _hunks(base, other):
            if start == end:
                self.insertions[start] = lines
            elif end - start == len(lines):  # neighbours that may change for different reasons
                for place, line in enumerate(lines, start):
                    self.ends[place], self._changed[place] = place + 1, [line]
            else:
                self.ends[start], self._changed[start] = end, lines

    def lines(self, start: int, end: int) -> list[bytes]:
        """The lines in place of some; no change goes beyond either end."""
        lines: list[bytes] = []
        while start < end:
            lines += self._changed.get(start, [self._base[start]])
            start = self.ends.get(start, start + 1)
        return lines


def _hunks(base: Lines, other: Lines) -> Iterator[tuple[int, int, Lines]]:
    """Yields what differs: the lines from `start` to before `end`, and the lines in their place."""
    at = place = 0
    for i, j in enumerate([*_places(base, other), len(other)]):
        if j is None:
            continue
        if at < i or place < j:
            yield at, i, other[place:j]
        at, place = i + 1, j + 1


def _places(base: Lines, other: Lines) -> list[int | None]:
    """The place of each line of the first text in the other; None where it is not there.

    Lines that occur once in both are matched, and then the lines around them, as in Bram Cohen's
    patience diff: n lines take n log n steps, whatever they are.
    """
    places: list[int | None] = [None] * len(base)
    parts = [(0, len(base), 0, len(other), _DEPTH)]
    while parts:
        a, a_end, b, b_end, depth = parts.pop()
        while a < a_end and b < b_end and base[a] == other[b]:
            places[a] = b
            a, b = a + 1, b + 1
        while a < a_end and b < b_end and base[a_end - 1] == other[b_end - 1]:
            a_end, b_end = a_end - 1, b_end - 1
            places[a_end] = b_end
        matches = _in_order(_single_matches(base, other, a, a_end, b, b_end)) if depth else []
        for i, j in [*matches, (a_end, b_end)] if matches else []:
            parts.append((a, i, b, j, depth - 1))
            if (i, j) != (a_end, b_end):
                places[i] = j
            a, b = i + 1, j + 1
    return places


def _single_matches(
    base: Lines, other: Lines, a: int, a_end: int, b: int, b_end: int
) -> list[tuple[int, int]]:
    """The places of lines that occur once in a part of either text, in the first one's order."""
    counts, other_counts = Counter(base[a:a_end]), Counter(other[b:b_end])
    places = {other[j]: j for j in range(b, b_end) if other_counts[other[j]] == 1}
    lines = ((i, places.get(base[i])) for i in range(a, a_end) if counts[base[i]] == 1)
    return [(i, j) for i, j in lines if j is not None]


def _in_order(matches: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The most matches that are in the order of both texts."""
    ends: list[int] = []  # the least last place of a row of so many matches
    rows: list[int] = []  # its last match
    before: list[int] = []
    for number, (_, j) in enumerate(matches):
        length = bisect_left(ends, j)
        before.append(rows[length - 1] if length else -1)
        ends[length : length + 1] = [j]
        rows[length : length + 1] = [number]
    result = []
    number = rows[-1] if rows else -1
    while number >= 0:
        result.append(matches[number])
        number = before[number]
    return result[::-1]


def _is_json(page: bytes) -> bool:
    try:
        json.loads(page)
    except (ValueError, RecursionError):
        return False
    return True


def _read(path: str) -> bytes:
    with open_to_read(path) as file:
        return file.read().replace(b"\r\n", b"\n")  # editors of Windows change every line's end


def _write(path: str, body: bytes) -> None:
    write_atomically(path, partial(_put, body))


def _put(body: bytes, sink: BinaryIO) -> None:
    sink.write(body)
