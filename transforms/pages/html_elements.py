"""The elements of a page that matter here, by the tokenizer of libxml2, which is the HTML
standard's. No tree is built.

Source: https://html.spec.whatwg.org/multipage/parsing.html
"""

from __future__ import annotations

from typing import Protocol

from lxml import etree

if etree.LIBXML_VERSION < (2, 14):  # before, it had a tokenizer of its own
    _VERSION = ".".join(map(str, etree.LIBXML_VERSION))
    raise ImportError(f"lxml has libxml2 {_VERSION}, and pages need 2.14: install lxml's wheel")
# libxml2 goes through all open elements at many an end tag and a `body`: so many a byte of a page,
# 1 us, are borne. It has `wbr` and `source` open up to the end of what they stand in.
MAX_LOOKS = 256
CHUNK = 1 << 14  # bytes
_WANTED = frozenset(("img", "image", "source", "picture", "base", "link", "meta", "a"))
_FOREIGN = {  # elements of SVG and MathML in which HTML may stand again
    "svg": frozenset(("foreignobject", "desc", "title")),
    "math": frozenset(("mi", "mo", "mn", "ms", "mtext")),
}
# Start tags that end SVG and MathML, even where no end tag does.
_BREAKOUTS = frozenset(
    (
        *("b", "big", "blockquote", "body", "br", "center", "code", "dd", "div", "dl", "dt", "em"),
        *("embed", "font", "h1", "h2", "h3", "h4", "h5", "h6", "head", "hr", "i", "img", "li"),
        *("listing", "menu", "meta", "nobr", "ol", "p", "pre", "ruby", "s", "small", "span"),
        *("strong", "strike", "sub", "sup", "table", "tt", "u", "ul", "var"),
    )
)


class Elements(Protocol):
    """Processes the elements of a page."""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Processes a start tag; `image` is an `img`."""

    def end_picture(self) -> None:
        """Processes the end of a `picture`."""


class _Target:
    """Hands the wanted elements of HTML on, and none of SVG and MathML."""

    def __init__(self, elements: Elements) -> None:
        self.elements, self.depth = elements, 0
        self.around: list[str] = []  # `svg`, `math`, and elements of theirs that hold HTML

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        if (self.around or name in _FOREIGN) and self._is_foreign(name):
            return
        if name in _WANTED:
            self.elements.start("img" if name == "image" else name, attributes)

    def end(self, name: str) -> None:
        self.depth -= 1
        if self.around:
            if self.around[-1] == name:
                self.around.pop()
                return
            if self.around[-1] in _FOREIGN:
                return
        if name == "picture":
            self.elements.end_picture()

    def _is_foreign(self, name: str) -> bool:
        """Whether an element that begins is one of SVG or MathML; notes what it begins or ends."""
        around = self.around
        if name in _FOREIGN:
            around.append(name)
        elif around[-1] in _FOREIGN:
            if name in _FOREIGN[around[-1]]:
                around.append(name)
            elif name in _BREAKOUTS:
                while around and around[-1] in _FOREIGN:
                    around.pop()
        return bool(around) and around[-1] in _FOREIGN

    def close(self) -> None:
        pass


class TooCostlyError(Exception):
    """A page has too many end tags too deep."""


def read_elements(html: str, elements: Elements) -> None:
    """Processes the elements of a page.

    Raises:
      TooCostlyError: the page takes too long, and its rest is unknown.
    """
    target = _Target(elements)
    parser = etree.HTMLParser(target=target, huge_tree=True, encoding="utf-8")
    body = html.encode("utf-8", "replace") or b" "
    at, looks = 0, MAX_LOOKS * len(body)
    try:
        while at < len(body):
            # Up to a tag: libxml2 looks at a long character reference anew in each chunk.
            end = body.find(b"<", at + CHUNK)
            chunk = body[at : end if end > 0 else len(body)]
            looks -= (chunk.count(b"</") + chunk.lower().count(b"<body")) * target.depth
            if looks < 0:
                raise TooCostlyError
            parser.feed(chunk)
            at += len(chunk)
        parser.close()
    finally:
        del target.elements  # which stay as long as the parser, which refers to itself
