"""The tokenizer of the HTML standard: kernels that find the ends of names, tags, comments and raw
text in a page's bytes.

Source: https://html.spec.whatwg.org/multipage/parsing.html#tokenization
"""

from __future__ import annotations

import numpy as np
from numba import njit

from alignset.transforms.columns.byte_search import is_at, is_byte, is_name, lowest_byte, word
from alignset.transforms.columns.hashing import read8
from alignset.transforms.columns.kernels import kernel

# Tags that lead to images come first. `image` becomes `img`.
_LEADING = ("img", "image", "source", "picture", "base", "link", "meta", "a")
_RAW_TEXT = (
    *("script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes"),
    "plaintext",
)
_SVG_POINTS = ("foreignobject", "desc", "title")
_MATH_POINTS = ("mi", "mo", "mn", "ms", "mtext")
_FOREIGN = ("svg", "math", "annotation-xml", "mglyph", "malignmark", "font")
# Start tags that end foreign content. `font` does so by its attributes.
_BREAKOUTS = (
    *("b", "big", "blockquote", "body", "br", "center", "code", "dd", "div", "dl", "dt", "em"),
    *("embed", "h1", "h2", "h3", "h4", "h5", "h6", "head", "hr", "i", "img", "li", "listing"),
    *("menu", "meta", "nobr", "ol", "p", "pre", "ruby", "s", "small", "span", "strong", "strike"),
    *("sub", "sup", "table", "tt", "u", "ul", "var"),
)
# Start tags that leave no open element: void elements, and tags that a body ignores.
_CHILDLESS = (
    *("img", "image", "source", "base", "link", "meta", "area", "br", "col", "embed", "hr"),
    *("input", "keygen", "param", "track", "wbr", "basefont", "bgsound", "frame"),
    *("html", "head", "body", "frameset"),
)
_NAMES = tuple(
    dict.fromkeys(
        (*_LEADING, *_RAW_TEXT, *_SVG_POINTS, *_MATH_POINTS, *_FOREIGN, *_BREAKOUTS, *_CHILDLESS)
    )
)
NOT_LISTED = -1
IMG, IMAGE, SOURCE, PICTURE, BASE, LINK, META, A = range(len(_LEADING))
SCRIPT, PLAINTEXT, SVG, MATH, ANNOTATION_XML, MGLYPH, MALIGNMARK, FONT, P, BR = map(
    _NAMES.index,
    (
        *("script", "plaintext", "svg", "math", "annotation-xml", "mglyph", "malignmark", "font"),
        *("p", "br"),
    ),
)
_LONGEST = max(map(len, _NAMES))
ATTRIBUTES = 256  # of a tag; to find out which of n came before takes a parser n * n comparisons


def _among(names: tuple[str, ...]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Whether each name is one of these; the last place is for `NOT_LISTED`."""
    return np.array([*(name in names for name in _NAMES), False])


IS_RAW_TEXT, IS_SVG_POINT, IS_MATH_POINT, IS_BREAKOUT, IS_CHILDLESS = map(
    _among, (_RAW_TEXT, _SVG_POINTS, _MATH_POINTS, _BREAKOUTS, _CHILDLESS)
)
_FNV_START, _FNV_PRIME = 0xCBF29CE484222325, 0x100000001B3
_START, _PRIME, _SLOT = np.uint64(_FNV_START), np.uint64(_FNV_PRIME), np.uint64(511)


def _hash(name: str) -> int:
    value = _FNV_START
    for byte in name.encode():
        value = (value ^ (byte | 32)) * _FNV_PRIME % (1 << 64)
    return value


_HASHES = np.array([_hash(name) for name in _NAMES], np.uint64)
_SLOTS = np.full(512, -1, np.int16)  # an open hash table, a fifth of it full
for _number, _value in enumerate(_HASHES.tolist()):
    _at = _value & 511
    while _SLOTS[_at] >= 0:
        _at = (_at + 1) & 511
    _SLOTS[_at] = _number
_CDATA = word(b"[CDATA[")


@njit(inline="always")
def is_space(c):  # type: ignore[no-untyped-def]
    """Whether a byte is white space of HTML."""
    return c == 32 or (c >= 9 and c <= 13 and c != 11)


@njit(inline="always")
def _ends_name(c):  # type: ignore[no-untyped-def]
    return is_space(c) or c == ord("/") or c == ord(">")


@njit(inline="always")
def is_letter(c):  # type: ignore[no-untyped-def]
    """Whether a byte is a letter of ASCII."""
    return (c | 32) >= ord("a") and (c | 32) <= ord("z")


@njit(inline="always")
def next_byte(data, at, stop, byte):  # type: ignore[no-untyped-def]
    """Where the next such byte is, or `stop`; eight at a time."""
    while at + 8 <= stop:
        marks = is_byte(read8(data, at), byte)
        if marks:
            return at + lowest_byte(marks)
        at += 8
    while at < stop and data[at] != byte:
        at += 1
    return at


@kernel
def name_at(data, at, stop):  # type: ignore[no-untyped-def]
    """The number of the tag's name that begins there, its hash, and where it ends."""
    value = _START
    while at < stop and not _ends_name(data[at]):
        value = (value ^ np.uint64(data[at] | 32)) * _PRIME
        at += 1
    slot = np.int64(value & _SLOT)
    while _SLOTS[slot] >= 0:
        number = np.int64(_SLOTS[slot])
        if _HASHES[number] == value:
            return number, value, at
        slot = (slot + 1) & 511
    return NOT_LISTED, value, at


@kernel
def attribute_at(data, at, stop):  # type: ignore[no-untyped-def]
    """The next attribute: where its name begins and ends, where its value does, and what is behind.

    Where there is none left, the name begins and ends at the ">" or at `stop`.
    """
    while at < stop and (is_space(data[at]) or data[at] == ord("/")):
        at += 1
    name = at
    if at >= stop or data[at] == ord(">"):
        return name, name, at, at, at
    at += 1  # a name's first byte, which may be "="
    while at < stop and not _ends_name(data[at]) and data[at] != ord("="):
        at += 1
    name_end = at
    while at < stop and is_space(data[at]):
        at += 1
    if at >= stop or data[at] != ord("="):
        return name, name_end, at, at, at
    at += 1
    while at < stop and is_space(data[at]):
        at += 1
    if at < stop and (data[at] == ord('"') or data[at] == ord("'")):
        end = next_byte(data, at + 1, stop, data[at])
        return name, name_end, at + 1, end, end + 1
    value = at
    while at < stop and not is_space(data[at]) and data[at] != ord(">"):
        at += 1
    return name, name_end, value, at, at


@kernel
def after_attributes(data, at, stop):  # type: ignore[no-untyped-def]
    """Behind the tag's ">", whether it closes itself, and where its attributes end that are kept;
    -1 where the page ends within it."""
    count, kept_end = 0, 0
    while True:
        before = at
        name, name_end, _, _, at = attribute_at(data, at, stop)
        if at >= stop:
            return -1, False, 0
        if name == name_end:
            closes_itself = name > before and data[name - 1] == ord("/")
            return at + 1, closes_itself, kept_end if count > ATTRIBUTES else at
        count += 1
        if count == ATTRIBUTES + 1:
            kept_end = name


@kernel
def attribute_value(data, at, stop, lower_name):  # type: ignore[no-untyped-def]
    """Where the value of a tag's first attribute of a name begins and ends; -1 where it has none.

    Args:
      at, stop: of the tag's attributes. lower_name: the name, in lower case.
    """
    while True:
        name, name_end, value, value_end, at = attribute_at(data, at, stop)
        if name == name_end:
            return -1, -1
        if is_name(data, name, name_end, lower_name):
            return value, value_end


@kernel
def _after_comment(data, at, stop):  # type: ignore[no-untyped-def]
    """Behind a comment whose "<!--" ends at `at`."""
    if at < stop and data[at] == ord(">"):
        return at + 1
    if at + 1 < stop and data[at] == ord("-") and data[at + 1] == ord(">"):
        return at + 2
    at = next_byte(data, at, stop, ord("-"))
    while at + 2 < stop:
        if data[at + 1] == ord("-"):
            if data[at + 2] == ord(">"):
                return at + 3
            if data[at + 2] == ord("!") and at + 3 < stop and data[at + 3] == ord(">"):
                return at + 4
        at = next_byte(data, at + 1, stop, ord("-"))
    return stop


@kernel
def after_byte(data, at, stop, byte):  # type: ignore[no-untyped-def]
    """Behind the next such byte, or `stop`."""
    return min(next_byte(data, at, stop, byte) + 1, stop)


@kernel
def _after_cdata(data, at, stop):  # type: ignore[no-untyped-def]
    at = next_byte(data, at, stop, ord("]"))
    while at + 2 < stop:
        if data[at + 1] == ord("]") and data[at + 2] == ord(">"):
            return at + 3
        at = next_byte(data, at + 1, stop, ord("]"))
    return stop


@kernel
def after_declaration(data, at, stop, foreign):  # type: ignore[no-untyped-def]
    """Where what begins with "<!" or "<?" has ended; CDATA is only in foreign content.

    Args:
      at: of the second byte.
    """
    if data[at] == ord("!"):
        if at + 2 < stop and data[at + 1] == ord("-") and data[at + 2] == ord("-"):
            return _after_comment(data, at + 3, stop)
        if foreign and at + 7 < stop and is_at(data, at + 1, _CDATA):
            return _after_cdata(data, at + 8, stop)
    return after_byte(data, at, stop, ord(">"))


@kernel
def _is_tag(data, at, stop, number):  # type: ignore[no-untyped-def]
    """Whether a listed name stands there in whole; looks no further than the longest of them."""
    last = min(stop, at + _LONGEST + 1)
    number_here, _, end = name_at(data, at, last)
    return number_here == number and end < last


@kernel
def raw_text_end(data, at, stop, number):  # type: ignore[no-untyped-def]  # noqa: C901, a machine of states
    """Where the end tag of a raw text element begins, or the page's end.

    Within "<!--" a nested "<script>" takes the next "</script>" for itself, and the outer script
    continues.
    """
    escaped = nested = False
    while at < stop:
        if not escaped:
            at = next_byte(data, at, stop, ord("<"))
            if at == stop:
                break
        c = data[at]
        if number == SCRIPT and c == ord("-") and escaped:
            if at + 2 < stop and data[at + 1] == ord("-") and data[at + 2] == ord(">"):
                escaped = nested = False
        elif c == ord("<") and at + 1 < stop:
            if data[at + 1] == ord("/"):
                if _is_tag(data, at + 2, stop, number):
                    if not nested:
                        return at
                    nested = False
            elif number == SCRIPT and not escaped:
                if at + 3 < stop and data[at + 1] == ord("!"):
                    escaped = data[at + 2] == ord("-") and data[at + 3] == ord("-")
            elif number == SCRIPT and not nested:
                nested = _is_tag(data, at + 1, stop, SCRIPT)
        at += 1
    return stop
