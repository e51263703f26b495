"""A page's encoding, and its elements that matter here, by the tokenizer of libxml2, which is the
HTML standard's. No tree is built.

Sources: https://html.spec.whatwg.org/multipage/parsing.html, and for names of encodings
https://encoding.spec.whatwg.org/
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from itertools import chain
from typing import Protocol

from lxml import etree
from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_BYTES_OF_META = 1 << 10  # in which a page must declare its encoding
_BYTES_SNIFFED = 1 << 16
# What Python calls what the standard means by these names.
_PYTHON_NAMES = {
    "shift_jis": "cp932",
    "euc-kr": "cp949",
    "euc_kr": "cp949",
    "gbk": "gb18030",
    "big5": "big5hkscs",
    "iso8859-11": "cp874",
}
_UNMAPPED_LABELS = {"x-user-defined": "cp1252", "x-mac-cyrillic": "mac-cyrillic"}
# The tokens of the standard's prescan. What is not closed extends to the end.
_S = rb"\t\n\f\r "
_TOKEN = re.compile(
    rb"<!--(?:-?>|.*?(?:-->|\Z))|<(?P<meta>meta)(?=[%(s)b/])|<(?P<tag>/?[a-z][^%(s)b>]*+)|<[!/?][^>]*+"
    % {b"s": _S},
    re.I | re.S,
)
_ATTRIBUTE = re.compile(
    rb"[%(s)b/]*+([^%(s)b/>][^%(s)b/>=]*+)(?:[%(s)b]*+=[%(s)b]*+"
    rb"(?:\"([^\"]*+)(?:\"|\Z)|'([^']*+)(?:'|\Z)|([^%(s)b>]*+)))?+" % {b"s": _S}
)
_CHARSET = re.compile(
    rb"charset[%(s)b]*+=[%(s)b]*+(?:\"([^\"]*+)\"|'([^']*+)'|(?![\"'])([^%(s)b;]*+))" % {b"s": _S},
    re.I,
)
_XML = re.compile(rb"<\?xml[^>]*?encoding[\0- ]*+=[\0- ]*+(?:\"([^\">]*+)\"|'([^'>]*+)')[^>]*+>")


def encoding_of(body: bytes | memoryview, charset: str) -> str:
    """The encoding of a page, as Python names it.

    By its byte order mark, else as HTTP declares it, else as the page does, else UTF-8 where it is
    that, else what it looks like.
    """
    head = bytes(body[:_BYTES_OF_META])
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    if name := python_name(charset) or _declared_by_page(head):
        return name
    if _is_utf8(body):
        return "utf-8"
    return python_name(detect_encoding(bytes(body[:_BYTES_SNIFFED])) or "") or "cp1252"


def _declared_by_page(head: bytes) -> str:
    """The encoding by the first `meta` that declares a known one, else by the XML declaration."""
    labels = _labels_of_metas(head)
    if xml := _XML.match(head):
        labels = chain(labels, [xml[1] or xml[2] or b""])
    names = (python_name(label.decode("latin-1")) for label in labels)
    name = next(filter(None, names), "")
    # A page whose declaration could be read is not UTF-16, whatever it says.
    return "utf-8" if name.startswith("utf-16") else name


def _labels_of_metas(head: bytes) -> Iterator[bytes]:
    """The labels of encodings that `meta` elements declare."""
    at = 0
    while token := _TOKEN.search(head, at):
        at = token.end()
        if not (token["meta"] or token["tag"]):
            continue
        attributes: dict[bytes, bytes] = {}
        while attribute := _ATTRIBUTE.match(head, at):
            at = attribute.end()
            name, *values = attribute.groups(b"")
            attributes.setdefault(name.lower(), b"".join(values))
        if token["meta"] and head.find(b">", at) >= 0:  # else the page, or what is read of it, ends
            yield _label_of_meta(attributes)


def _label_of_meta(attributes: dict[bytes, bytes]) -> bytes:
    if b"charset" in attributes:
        return attributes[b"charset"]
    if attributes.get(b"http-equiv", b"").lower() != b"content-type":
        return b""
    charset = _CHARSET.search(attributes.get(b"content", b""))
    return next(filter(None, charset.groups()), b"") if charset else b""


def python_name(label: str) -> str:
    """The encoding of a label, as Python names it; empty for a label that the standard does not
    know."""
    label = label.strip(" \t\n\f\r").lower()
    name = _UNMAPPED_LABELS.get(label) or (label and map_encoding_to_html5(label, False)) or ""
    name = _PYTHON_NAMES.get(name.lower(), name)
    try:
        return codecs.lookup(name).name if name else ""
    except LookupError:
        return ""


def _is_utf8(body: bytes | memoryview) -> bool:
    try:
        codecs.decode(body, "utf-8")
    except UnicodeDecodeError as error:
        return error.start >= len(body) - 3  # cut within a letter
    return True


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
