"""The few tags of a page that lead to images or state opt-outs and licences, picked out by the
tokenizer of the HTML standard.

A page is some thousand tags, and a parser makes a tree of them; the tags wanted here are a few. One
walk over the bytes finds them where a browser would: not in comments, scripts or other raw text,
and not within SVG and MathML. A real parser, which gets these tags alone, reads their attributes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from alignset.transforms.columns.byte_search import Words, is_name, word, words
from alignset.transforms.columns.kernels import allocating_kernel, kernel
from alignset.transforms.pages.foreign_content import (
    OpenElements,
    close_element,
    is_foreign,
    open_element,
)
from alignset.transforms.pages.html_tokens import (
    BASE,
    IS_RAW_TEXT,
    LINK,
    META,
    NOT_LISTED,
    PICTURE,
    PLAINTEXT,
    A,
    after_attributes,
    after_byte,
    after_declaration,
    attribute_value,
    is_letter,
    is_space,
    name_at,
    next_byte,
    raw_text_end,
)

PIECE = 1 << 18  # bytes of tags that are parsed together: a parser takes a hundred times as many
_MOST_LICENCES = 1 << 16  # bytes of tags that may state a licence
_IMAGES, _METAS, _LICENCES = range(3)
_NAME, _LICENSE = word(b"name"), word(b"licen")


@kernel
def _is_named(data, at, stop, names):  # type: ignore[no-untyped-def]
    """Whether the `name` of a tag may be one of some names. Character references are for a parser;
    a slash that ends an unquoted value is ignored."""
    value, end = attribute_value(data, at, stop, _NAME)
    while value < end and is_space(data[value]):
        value += 1
    while value < end and (is_space(data[end - 1]) or data[end - 1] == ord("/")):
        end -= 1
    for place in range(value, end):
        if data[place] == ord("&"):
            return True
    for row in range(len(names.sizes)):
        if is_name(data, value, end, names.table[row, : names.sizes[row]]):
            return True
    return False


@kernel
def _has_word(data, at, stop, word):  # type: ignore[no-untyped-def]
    """Whether a word of lower case stands anywhere there, in letters of any case."""
    for place in range(at, stop - len(word) + 1):
        if is_name(data, place, place + len(word), word):
            return True
    return False


class _Wanted(NamedTuple):
    """Which tags are wanted: `link`, and `meta` of these names."""

    links: bool
    names: Words


class _Picked(NamedTuple):
    """The tags of each kind, in so many bytes."""

    tags: tuple[npt.NDArray[np.uint8], ...]
    sizes: npt.NDArray[np.int64]


@kernel
def _copy(data, at, stop, picks, kind):  # type: ignore[no-untyped-def]
    """Appends a tag, without what it ends with, to the tags of a kind."""
    tags, end = picks.tags[kind], picks.sizes[kind]
    for place in range(stop - at):
        tags[end + place] = data[at + place]
    tags[end + stop - at] = ord(">")
    picks.sizes[kind] = end + stop - at + 1


@kernel
def _pick_tag(data, tag, number, options, picks):  # type: ignore[no-untyped-def]
    """Copies a start tag of HTML if it is wanted.

    Args:
      tag: where it begins, where its name ends, and where it ends.
    """
    begin, name_end, stop = tag
    if number <= BASE or (number == LINK and options.links):
        _copy(data, begin, stop, picks, _IMAGES)
    if number == META:
        if _is_named(data, name_end, stop, options.names):
            _copy(data, begin, stop, picks, _METAS)
    elif number > BASE:
        room = len(picks.tags[_LICENCES]) - picks.sizes[_LICENCES]
        if stop - begin < room and _has_word(data, name_end, stop, _LICENSE):
            _copy(data, begin, stop, picks, _LICENCES)


@allocating_kernel
def _pick(data, options, picks, elements):  # type: ignore[no-untyped-def]  # noqa: C901, a machine of states
    """Copies the wanted tags of a page."""
    at, stop = 0, len(data)
    while True:
        begin = next_byte(data, at, stop, ord("<"))
        at = begin + 1
        if at >= stop:
            break
        if data[at] == ord("!") or data[at] == ord("?"):
            at = after_declaration(data, at, stop, is_foreign(elements))
            continue
        closes = data[at] == ord("/")
        at += closes
        if at >= stop:
            break
        if not is_letter(data[at]):
            if closes:
                at = after_byte(data, at, stop, ord(">"))
            continue
        number, name, name_end = name_at(data, at, stop)
        at, closes_itself, kept_end = after_attributes(data, name_end, stop)
        if at < 0:
            break
        if closes:
            if close_element(elements, number, name) and number == PICTURE:
                _copy(data, begin, kept_end, picks, _IMAGES)
        elif open_element(elements, number, name, data, name_end, kept_end, closes_itself):
            if number != NOT_LISTED and number <= A:
                _pick_tag(data, (begin, name_end, kept_end), number, options, picks)
            elif number == PLAINTEXT:
                break
            elif IS_RAW_TEXT[number]:
                at = raw_text_end(data, at, stop, number)


@kernel
def _piece_end(tags, at, least):  # type: ignore[no-untyped-def]
    """Where a piece of tags ends that begins at `at`."""
    begin, inside = at, False
    while at >= 0 and at < len(tags):
        if at - begin >= least and (not inside or at - begin >= 2 * least):
            return at
        closes = tags[at + 1] == ord("/")
        number, _, end = name_at(tags, at + 1 + closes, len(tags))
        if number == PICTURE:
            inside = not closes
        at = after_attributes(tags, end, len(tags))[0]
    return len(tags)


def pieces(tags: bytes, least: int = PIECE) -> Iterator[bytes]:
    """The tags of a page in parts of little more than so many bytes, cut between two tags and, if
    the part gets no longer than twice that, outside of a `picture`."""
    data, at = np.frombuffer(tags, np.uint8), 0
    while at < len(tags):
        end = _piece_end(data, at, least) if len(tags) - at > least else len(tags)
        yield tags[at:end]
        at = end


class PickedTags(NamedTuple):
    """Tags of a page, each kind in order.

    Fields:
      images: `img`, `source`, `picture` (also its end), `base`, and `link` if it is wanted.
      metas: `meta` whose name may be one of those asked for.
      licences: `a` and `link` that may state a licence, of 64 KiB at most.
    """

    images: bytes
    metas: bytes
    licences: bytes


_words = lru_cache(words)


def picked_tags(
    page: bytes | memoryview, *, links: bool = False, metas: tuple[str, ...] = ()
) -> PickedTags:
    """Pick the tags of a page that matter.

    Args:
      page: HTML in an encoding in which ASCII's bytes are ASCII's characters.
      links: whether `link` is wanted too.
      metas: names of wanted `meta` elements.
    """
    data = np.frombuffer(page, np.uint8)
    data.setflags(write=False)  # or the kernel is compiled once more for pages that could change
    sizes = len(data), len(data), _MOST_LICENCES
    picks = _Picked(tuple(np.empty(size, np.uint8) for size in sizes), np.zeros(3, np.int64))
    _pick(data, _Wanted(links, _words(metas)), picks, OpenElements.none())
    return PickedTags(*(tags[:end].tobytes() for tags, end in zip(*picks, strict=True)))
