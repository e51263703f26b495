"""Which tags of a page are HTML, and which are elements of SVG or MathML.

A stack holds the elements that are open within `svg` or `math`, and the HTML elements within their
integration points. HTML around them is only counted by name: an end tag of an element that is open
there leaves foreign content. No tree is built, so that implied end tags and the rules of tables and
of formatting elements do not count within an integration point.

Source: https://html.spec.whatwg.org/multipage/parsing.html#parsing-main-inforeign
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from alignset.transforms.columns.byte_search import is_name, word
from alignset.transforms.columns.kernels import kernel
from alignset.transforms.pages.html_tokens import (
    ANNOTATION_XML,
    BR,
    FONT,
    IS_BREAKOUT,
    IS_CHILDLESS,
    IS_MATH_POINT,
    IS_SVG_POINT,
    MALIGNMARK,
    MATH,
    MGLYPH,
    SVG,
    P,
    attribute_value,
)

# The kinds of elements on the stack. HTML content may begin in the last four of the foreign ones.
_HTML, _IN_SVG, _IN_MATH, _ANNOTATION, _MATH_POINT, _HTML_ANNOTATION, _SVG_POINT = range(7)
_MOST_OPEN = 64  # deeper elements replace each other, so that an end tag looks at no more
COUNTERS = 1 << 14
_COLOR, _FACE, _SIZE, _ENCODING = map(word, (b"color", b"face", b"size", b"encoding"))
_HTML_TYPE, _XHTML_TYPE = word(b"text/html"), word(b"application/xhtml+xml")


class OpenElements(NamedTuple):
    """The elements that are open at a place of a page.

    Fields:
      names: hash[64]. kinds: int8[64]: of the stack.
      depth: int64[1]: of the stack.
      around: int32[16384]: how many HTML elements around it are open, by hash of their name.
    """

    names: npt.NDArray[np.uint64]
    kinds: npt.NDArray[np.int8]
    depth: npt.NDArray[np.int64]
    around: npt.NDArray[np.int32]

    @classmethod
    def none(cls) -> OpenElements:
        """Make an empty stack."""
        return cls(
            np.empty(_MOST_OPEN, np.uint64),
            np.empty(_MOST_OPEN, np.int8),
            np.zeros(1, np.int64),
            np.zeros(COUNTERS, np.int32),
        )


@kernel
def is_foreign(elements):  # type: ignore[no-untyped-def]
    """Whether the current element is not an HTML element."""
    depth = elements.depth[0]
    return depth > 0 and elements.kinds[depth - 1] != _HTML


@kernel
def open_element(elements, number, name, data, at, stop, closes_itself):  # type: ignore[no-untyped-def]
    """Processes a start tag; returns whether it is HTML.

    Args:
      at, stop: of the tag's attributes.
    """
    depth = elements.depth[0]
    if depth == 0 and number != SVG and number != MATH:  # nearly all tags of nearly all pages
        if not IS_CHILDLESS[number]:
            elements.around[name % np.uint64(COUNTERS)] += 1
        return True
    if not _is_html_expected(elements, number):
        if not (IS_BREAKOUT[number] or (number == FONT and _has_look(data, at, stop))):
            if not closes_itself:
                parent = elements.kinds[depth - 1]
                _push(elements, name, _foreign_kind(parent, number, data, at, stop))
            return False
        _break_out(elements)
    if number in (SVG, MATH):
        if not closes_itself:
            _push(elements, name, _IN_SVG if number == SVG else _IN_MATH)
    elif not IS_CHILDLESS[number]:
        if elements.depth[0]:
            _push(elements, name, _HTML)
        else:
            elements.around[name % np.uint64(COUNTERS)] += 1
    return True


@kernel
def _is_html_expected(elements, number):  # type: ignore[no-untyped-def]
    """Whether a start tag is processed by the rules of HTML."""
    depth = elements.depth[0]
    kind = elements.kinds[depth - 1] if depth else _HTML
    if kind == _MATH_POINT:
        return number != MGLYPH and number != MALIGNMARK
    if kind == _ANNOTATION:
        return number == SVG
    return kind in (_HTML, _SVG_POINT, _HTML_ANNOTATION)


@kernel
def _has_look(data, at, stop):  # type: ignore[no-untyped-def]
    """Whether a `font` has an attribute by which it is not an element of SVG."""
    color = attribute_value(data, at, stop, _COLOR)[0]
    face = attribute_value(data, at, stop, _FACE)[0]
    return max(color, face, attribute_value(data, at, stop, _SIZE)[0]) >= 0


@kernel
def _foreign_kind(parent, number, data, at, stop):  # type: ignore[no-untyped-def]
    """The kind of an element whose parent is of SVG or MathML."""
    if parent in (_IN_SVG, _SVG_POINT):
        return _SVG_POINT if IS_SVG_POINT[number] else _IN_SVG
    if IS_MATH_POINT[number]:
        return _MATH_POINT
    if number != ANNOTATION_XML:
        return _IN_MATH
    value, value_end = attribute_value(data, at, stop, _ENCODING)
    is_html = is_name(data, value, value_end, _HTML_TYPE)
    is_html |= is_name(data, value, value_end, _XHTML_TYPE)
    return _HTML_ANNOTATION if is_html else _ANNOTATION


@kernel
def _push(elements, name, kind):  # type: ignore[no-untyped-def]
    depth = min(elements.depth[0], _MOST_OPEN - 1)
    elements.names[depth], elements.kinds[depth] = name, kind
    elements.depth[0] = depth + 1


@kernel
def _break_out(elements):  # type: ignore[no-untyped-def]
    """Closes foreign elements up to one in which HTML may be."""
    depth = elements.depth[0]
    while depth and elements.kinds[depth - 1] in (_IN_SVG, _IN_MATH, _ANNOTATION):
        depth -= 1
    elements.depth[0] = depth


@kernel
def close_element(elements, number, name):  # type: ignore[no-untyped-def]
    """Processes an end tag; returns whether it is HTML."""
    at, kinds = elements.depth[0] - 1, elements.kinds
    if at >= 0 and kinds[at] != _HTML and number in (P, BR):
        _break_out(elements)
        return True
    has_wall = False
    while at >= 0 and kinds[at] != _HTML:
        if elements.names[at] == name:
            elements.depth[0] = at
            return False
        has_wall |= kinds[at] != _IN_SVG and kinds[at] != _IN_MATH
        at -= 1
    if has_wall:  # by an integration point, beyond which no end tag of HTML reaches
        return False
    while at >= 0 and kinds[at] == _HTML:
        if elements.names[at] == name:
            elements.depth[0] = at
            return True
        at -= 1
    if at < 0 and elements.around[name % np.uint64(COUNTERS)] > 0:
        elements.around[name % np.uint64(COUNTERS)] -= 1
        elements.depth[0] = 0
    return at < 0
