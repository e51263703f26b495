"""The few tags of a page that lead to images, or say what they may be used for, picked out by the
tokenizer of the HTML standard.

A page is some thousand tags, of which a parser makes a tree; the tags wanted here are a few. One
walk over the bytes finds them where a browser would: not in comments, scripts or other raw text.
What a tag means is left to a real parser, which gets these tags alone.

Source: https://html.spec.whatwg.org/multipage/parsing.html#tokenization
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numba import njit

from transforms.columns.byte_search import is_byte, lowest_byte
from transforms.columns.hashing import read8
from transforms.columns.kernels import allocating_kernel

# Numbers of the names that matter. The first are wanted, the next begin raw text.
_NAMES = (
    *("img", "source", "picture", "base", "link"),
    *("script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes"),
    *("plaintext", "svg", "math"),
    *("meta", "a"),  # which are told apart, where they say something
)
_WANTED, _RAW, _PLAINTEXT, _SVG = 5, 13, 13, 14
_LONGEST = 10
_ATTRIBUTES = 256  # of a tag; to find out which of n came before takes a parser n * n comparisons
_TABLE = np.zeros((len(_NAMES), _LONGEST), np.uint8)
_SIZES = np.array([len(name) for name in _NAMES], np.int64)
for _at, _name in enumerate(_NAMES):
    _TABLE[_at, : len(_name)] = np.frombuffer(_name.encode(), np.uint8)
PIECE = 1 << 18  # bytes of tags that are parsed together: a parser takes a hundred times as many
_SCRIPT = _NAMES.index("script")
_IMG = _NAMES.index("img")
_PICTURE = _NAMES.index("picture")
_LINK = _NAMES.index("link")
_META = _NAMES.index("meta")
_MOST_TOLD = 1 << 16  # bytes of tags that say something
_LICENSE, _NO_AI, _NO_IMAGE, _TDM = (
    np.frombuffer(word, np.uint8) for word in (b"licen", b"noai", b"noima", b"tdm-r")
)


@njit(inline="always")
def _is_space(c):  # type: ignore[no-untyped-def]
    return c == 32 or (c >= 9 and c <= 13 and c != 11)


@njit(inline="always")
def _ends_name(c):  # type: ignore[no-untyped-def]
    return _is_space(c) or c == ord("/") or c == ord(">")


@njit(inline="always")
def _is_letter(c):  # type: ignore[no-untyped-def]
    return (c | 32) >= ord("a") and (c | 32) <= ord("z")


@njit(inline="always")
def _next(data, at, stop, byte):  # type: ignore[no-untyped-def]
    """Where the next such byte is, or `stop`; eight at a time."""
    while at + 8 <= stop:
        marks = is_byte(read8(data, at), byte)
        if marks:
            return at + lowest_byte(marks)
        at += 8
    while at < stop and data[at] != byte:
        at += 1
    return at


@allocating_kernel
def _name_at(data, at, stop, table, sizes):  # type: ignore[no-untyped-def]
    """Which of the names stands there, or -1; and where it ends, or is longer than any of them."""
    end, last = at, min(stop, at + table.shape[1] + 1)
    while end < last and not _ends_name(data[end]):
        end += 1
    size = end - at
    if size <= table.shape[1]:
        for number in range(len(sizes)):
            if sizes[number] == size:
                same = True
                for place in range(size):
                    same &= (data[at + place] | 32) == table[number, place]
                if same:
                    return number, end
    return -1, end


@allocating_kernel
def _after_attributes(data, at, stop):  # type: ignore[no-untyped-def]  # noqa: C901, a machine of states
    """Behind the tag's ">", whether it closes itself, and where its attributes end that are kept;
    -1 where the page ends within it."""
    count, kept = 0, 0
    while True:
        slash = False
        while at < stop and (_is_space(data[at]) or data[at] == ord("/")):
            slash = data[at] == ord("/")
            at += 1
        if at >= stop:
            return -1, False, 0
        if data[at] == ord(">"):
            return at + 1, slash, kept if count > _ATTRIBUTES else at
        count += 1
        if count == _ATTRIBUTES + 1:
            kept = at
        at += 1  # a name's first byte, which may be "="
        while at < stop and not _ends_name(data[at]) and data[at] != ord("="):
            at += 1
        while at < stop and _is_space(data[at]):
            at += 1
        if at < stop and data[at] == ord("="):
            at += 1
            while at < stop and _is_space(data[at]):
                at += 1
            if at < stop and (data[at] == ord('"') or data[at] == ord("'")):
                at = _next(data, at + 1, stop, data[at]) + 1
            else:
                while at < stop and not _is_space(data[at]) and data[at] != ord(">"):
                    at += 1


@allocating_kernel
def _after_comment(data, at, stop):  # type: ignore[no-untyped-def]
    """Behind a comment whose "<!--" ends at `at`."""
    if at < stop and data[at] == ord(">"):
        return at + 1
    if at + 1 < stop and data[at] == ord("-") and data[at + 1] == ord(">"):
        return at + 2
    at = _next(data, at, stop, ord("-"))
    while at + 2 < stop:
        if data[at + 1] == ord("-"):
            if data[at + 2] == ord(">"):
                return at + 3
            if data[at + 2] == ord("!") and at + 3 < stop and data[at + 3] == ord(">"):
                return at + 4
        at = _next(data, at + 1, stop, ord("-"))
    return stop


@allocating_kernel
def _after(data, at, stop, byte):  # type: ignore[no-untyped-def]
    return min(_next(data, at, stop, byte) + 1, stop)


@allocating_kernel
def _after_cdata(data, at, stop):  # type: ignore[no-untyped-def]
    while at + 2 < stop:
        if data[at] == ord("]") and data[at + 1] == ord("]") and data[at + 2] == ord(">"):
            return at + 3
        at += 1
    return stop


@allocating_kernel
def _raw_text_end(data, at, stop, number, table, sizes):  # type: ignore[no-untyped-def]  # noqa: C901, a machine of states
    """Where the end tag of a raw text element begins, or the page's end.

    Within "<!--" a nested "<script>" takes the next "</script>" for itself, and the outer script
    goes on.
    """
    escaped = nested = False
    while at < stop:
        if not escaped:
            at = _next(data, at, stop, ord("<"))
            if at == stop:
                break
        c = data[at]
        if number == _SCRIPT and c == ord("-") and escaped:
            if at + 2 < stop and data[at + 1] == ord("-") and data[at + 2] == ord(">"):
                escaped = nested = False
        elif c == ord("<") and at + 1 < stop:
            if data[at + 1] == ord("/"):
                tag, end = _name_at(data, at + 2, stop, table, sizes)
                if tag == number and end < stop:
                    if not nested:
                        return at
                    nested = False
            elif number == _SCRIPT and not escaped:
                if at + 3 < stop and data[at + 1] == ord("!"):
                    escaped = data[at + 2] == ord("-") and data[at + 3] == ord("-")
            elif number == _SCRIPT and not nested:
                tag, end = _name_at(data, at + 1, stop, table, sizes)
                nested = tag == _SCRIPT and end < stop
        at += 1
    return stop


@allocating_kernel
def _after_declaration(data, at, stop, foreign):  # type: ignore[no-untyped-def]
    """Where what begins with "<!" or "<?" has ended; CDATA is there in what is no HTML alone."""
    if data[at] == ord("!"):
        if at + 2 < stop and data[at + 1] == ord("-") and data[at + 2] == ord("-"):
            return _after_comment(data, at + 3, stop)
        if foreign and at + 1 < stop and data[at + 1] == ord("["):
            return _after_cdata(data, at, stop)
    return _after(data, at, stop, ord(">"))


@njit(inline="always")
def _is_at(data, at, word):  # type: ignore[no-untyped-def]
    """Whether a word of lower case stands there, in letters of any case."""
    same = True
    for place in range(len(word)):
        same &= (data[at + place] | 32) == word[place]
    return same


@allocating_kernel
def _says(data, at, stop, number):  # type: ignore[no-untyped-def]
    """Whether a tag may state a licence, or of a `meta` a wish."""
    while at + 5 <= stop:
        c = data[at] | 32
        if number != _META:
            if c == ord("l") and _is_at(data, at, _LICENSE):
                return True
        elif c == ord("n"):
            if _is_at(data, at, _NO_AI) or _is_at(data, at, _NO_IMAGE):
                return True
        elif c == ord("t") and _is_at(data, at, _TDM):
            return True
        at += 1
    return False


@allocating_kernel
def _copy(data, at, stop, out, used):  # type: ignore[no-untyped-def]
    """Appends a tag without what it ends with; returns the new end."""
    size = stop - at
    out[used : used + size] = data[at:stop]
    out[used + size] = ord(">")
    return used + size + 1


@allocating_kernel
def _pick(data, out, said, links, table, sizes):  # type: ignore[no-untyped-def]  # noqa: C901, a machine of states
    """Copies the wanted tags, links only if so, and those that say something; returns how many
    bytes of each."""
    at, stop, used, told = 0, len(data), 0, 0
    foreign = False
    while True:
        at = _next(data, at, stop, ord("<"))
        begin = at
        at += 1
        if at >= stop:
            break
        c = data[at]
        if c == ord("!") or c == ord("?"):
            at = _after_declaration(data, at, stop, foreign)
            continue
        closes = c == ord("/")
        at += closes
        if at >= stop:
            break
        if not _is_letter(data[at]):
            if closes:
                at = _after(data, at, stop, ord(">"))
            continue
        number, at = _name_at(data, at, stop, table, sizes)
        while at < stop and not _ends_name(data[at]):
            at += 1
        name_end = at
        at, empty, kept = _after_attributes(data, at, stop)
        if at < 0:
            break
        if number >= _META or number == _LINK:
            room = told + kept - begin < len(said)
            if not closes and not foreign and room and _says(data, name_end, kept, number):
                told = _copy(data, begin, kept, said, told)
            if number >= _META:
                continue
        if number < 0 or (number == _LINK and not links):
            continue
        if number < _WANTED:
            if not closes or number == _PICTURE:
                used = _copy(data, begin, kept, out, used)
            foreign &= number != _IMG  # as in a browser, an image ends what is no HTML
        elif number >= _SVG:
            foreign = not closes and not empty
        elif not closes and not foreign:
            if number == _PLAINTEXT:
                break
            at = _raw_text_end(data, at, stop, number, table, sizes)
    return used, told


@allocating_kernel
def _piece_end(tags, at, least, table, sizes):  # type: ignore[no-untyped-def]
    """Where a piece of tags ends that begins at `at`."""
    begin, inside = at, False
    while at >= 0 and at < len(tags):
        if at - begin >= least and (not inside or at - begin >= 2 * least):
            return at
        closes = tags[at + 1] == ord("/")
        number, end = _name_at(tags, at + 1 + closes, len(tags), table, sizes)
        if number == _PICTURE:
            inside = not closes
        at = _after_attributes(tags, end, len(tags))[0]
    return len(tags)


def pieces(tags: bytes, least: int = PIECE) -> Iterator[bytes]:
    """The tags of a page in parts of little more than so many bytes, cut between two tags and, if
    the part gets no longer than twice that, outside of a `picture`."""
    data, at = np.frombuffer(tags, np.uint8), 0
    while at < len(tags):
        end = _piece_end(data, at, least, _TABLE, _SIZES) if len(tags) - at > least else len(tags)
        yield tags[at:end]
        at = end


class PickedTags(NamedTuple):
    """Tags of a page, each kind in order.

    Fields:
      images: `img`, `source`, `picture` (also its end), `base`, and `link` if it is wanted.
      said: `meta`, `a` and `link` that may state a wish or a licence, of 64 KiB at most.
    """

    images: bytes
    said: bytes


def picked_tags(page: bytes | memoryview, *, links: bool = False) -> PickedTags:
    """The tags of a page that matter.

    Args:
      page: HTML in an encoding in which ASCII's bytes are ASCII's characters.
      links: whether `link` is wanted too.
    """
    data = np.frombuffer(page, np.uint8)
    data.setflags(write=False)  # or the kernel is compiled once more for pages that could change
    out, said = np.empty(len(data), np.uint8), np.empty(_MOST_TOLD, np.uint8)
    used, told = _pick(data, out, said, links, _TABLE, _SIZES)
    return PickedTags(out[:used].tobytes(), said[:told].tobytes())
