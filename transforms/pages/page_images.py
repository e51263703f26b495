"""Pages to pairs: which image, and which text. docs/pages.md says the rules.

Source: https://html.spec.whatwg.org/multipage/
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import can_ada
from selectolax.lexbor import LexborHTMLParser, LexborNode

from alignset.transforms.columns.web_urls import parse_url
from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings
from alignset.transforms.pages.archive_members import Broken, unreadable
from alignset.transforms.pages.html_tags import picked_tags, pieces
from alignset.transforms.pages.http_pages import MAX_URL, Page
from alignset.transforms.pages.page_encoding import NOT_ASCII, encoding_of, has_escapes, python_name
from alignset.transforms.pages.page_words import (
    HONOURED,
    SILENT,
    PageWords,
    meta_names,
    words_of_tags,
)

# Where pages that load images late keep their URL, the most usual first.
LAZY_ATTRIBUTES = (
    *("data-src", "data-original", "data-lazy-src", "data-lazy", "data-url", "data-img-src"),
    *("data-actualsrc", "data-echo", "data-image", "data-hi-res-src", "data-srcurl"),
)
SRCSET_ATTRIBUTES = ("srcset", "data-srcset", "data-lazy-srcset", "data-original-set")
_SPACE = " \t\n\f\r"


class Found(NamedTuple):
    """One image with its text, as the page has them."""

    url: str  # absolute, by the rules of the URL standard; as it stands where that cannot be
    text: str
    page: str

    def with_words(self, words: PageWords) -> FoundImage:
        """The same with what its page says."""
        return self if words == SILENT else Spoken(self, words)


class Spoken(NamedTuple):
    """An image whose page says something of its use."""

    image: Found
    words: PageWords


FoundImage = Found | Spoken


class Tags(NamedTuple):
    """The relevant part of a page: the tags that lead to images, or a piece of them."""

    base: Base  # the same of all its pieces
    tags: str
    words: PageWords = SILENT


def tags_of(page: Page, how: OptOutSettings = HONOURED) -> Iterator[Tags]:
    """The tags of a page that lead to images, decoded, in pieces; none where there are none.

    Args:
      how: which opt-outs of the page are honoured.
    """
    page = _in_ascii(page)
    picks = picked_tags(page.body, links=not page.url, metas=meta_names(how))
    if not picks.images:
        return
    name = "ascii" if picks.images.isascii() else encoding_of(page.body, page.charset)
    base, words = Base(page.url), words_of_tags(page.url, page.header, picks, how)
    for piece in pieces(picks.images):
        yield Tags(base, piece.decode(name, "replace"), words)


def _in_ascii(page: Page) -> Page:
    """The page, as UTF-8 where in its own encoding a byte of ASCII need not be that character."""
    has_mark = bytes(page.body[:2]) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    if has_mark or python_name(page.charset) in NOT_ASCII or has_escapes(page.body):
        name = encoding_of(page.body, page.charset)
        if name in NOT_ASCII:
            body = str(page.body, name, "replace").encode("utf-8", "replace")
            return page._replace(body=body, charset="utf-8")
    return page


def images_of(pages: Sequence[Tags]) -> Iterator[FoundImage | Broken]:
    """The images with alt-texts of some pages, and what of them made our code raise.

    All are parsed as one document, since to make one costs more than to parse these tags; `hr`,
    which is none of them, stands between two.
    """
    try:
        tree = LexborHTMLParser("<hr>".join(["", *(piece.tags for piece in pages)]))
        nodes = tree.css("img, hr, picture, source, base, link")
    except Exception as error:
        if len(pages) == 1:
            yield unreadable(error, pages[0].base.page)
        else:
            for piece in pages:
                yield from images_of([piece])
        return
    yield from _images(nodes, iter(pages))


def _images(nodes: list[LexborNode], pages: Iterator[Tags]) -> Iterator[FoundImage | Broken]:
    base, words, pictures = Base(""), SILENT, _Pictures()
    for node in nodes:
        tag = node.tag
        try:
            if tag == "img":
                if image := _image(node, pictures):
                    yield Found(base.join(image[0]), image[1], base.page).with_words(words)
            elif tag == "hr":
                base, _, words = next(pages)
                pictures = _Pictures()
            elif tag == "base":
                base.set(node.attributes.get("href"))
            elif tag == "link":
                base.by_canonical(node.attributes)
            else:
                pictures.add(node)
        except Exception as error:
            yield unreadable(error, base.page)


def _image(node: LexborNode, pictures: _Pictures) -> tuple[str, str] | None:
    """The URL as it stands, and the text, of an image that has both."""
    attributes = node.attributes
    text = attributes.get("alt")
    if not text or text.isspace():
        return None
    url = image_url(attributes) or pictures.url(node)
    return (url, text) if url else None


def image_url(attributes: dict[str, str | None]) -> str:
    """The URL that an `img` shows, or will show; empty where there is none."""
    for name in ("src", *LAZY_ATTRIBUTES):
        if value := usable_url(attributes.get(name) or ""):
            return value
    return _largest(attributes)


def usable_url(value: str) -> str:
    """The URL in an attribute; empty where there is none, or one that holds the image itself."""
    url = value.strip(_SPACE)
    return "" if _is_inline(url) else url


def _is_inline(url: str) -> bool:
    return url[:5].lower() in ("data:", "blob:", "about", "javas")


def _largest(attributes: dict[str, str | None]) -> str:
    for name in SRCSET_ATTRIBUTES:
        candidates = srcset_candidates(attributes.get(name) or "")
        usable = [candidate for candidate in candidates if not _is_inline(candidate[1])]
        if usable:
            return max(usable, key=lambda candidate: candidate[0])[1]  # the first of equals
    return ""


class _Pictures:
    """The `source`s of each `picture` of a page."""

    def __init__(self) -> None:
        self._pictures: set[int] = set()
        self._sources: dict[int, list[LexborNode]] = {}  # that nobody looked at
        self._urls: dict[int, str] = {}

    def add(self, node: LexborNode) -> None:
        """Adds a `picture`, or a `source`, which counts in one."""
        if node.tag == "picture":
            self._pictures.add(node.mem_id)
        elif node.parent and (picture := node.parent.mem_id) in self._pictures:
            self._sources.setdefault(picture, []).append(node)

    def url(self, image: LexborNode) -> str:
        """The first with one among the `source`s before an image in its `picture`."""
        picture = image.parent.mem_id if image.parent else 0
        if not self._urls.get(picture):
            sources = self._sources.pop(picture, [])
            urls = (_largest(source.attributes) for source in sources)
            self._urls[picture] = next(filter(None, urls), "")
        return self._urls[picture]


class Base:
    """The base of a page's relative URLs, and its own URL, or empty."""

    def __init__(self, page: str) -> None:
        self.page = page
        self._url = parse_url(page)
        self._set = False

    def set(self, href: str | None) -> None:
        """By the first `base` that has a `href`; one that is not an http(s) URL changes nothing."""
        if self._set or href is None:
            return
        self._set = True
        base = parse_url(self.join(href.strip(_SPACE)))
        if base is not None and _may_be_page(base):
            self._url = base

    def by_canonical(self, link: dict[str, str | None]) -> None:
        """By a `link` of the page to itself, where nothing else tells its URL."""
        if self.page or "canonical" not in (link.get("rel") or "").lower().split():
            return
        page = parse_url((link.get("href") or "").strip(_SPACE))
        if page is None or not _may_be_page(page):
            return
        if not self._set:
            self._url = page
        self.page = page.href

    def join(self, url: str) -> str:
        """The absolute URL, or the same where that cannot be."""
        target = parse_url(url, self._url)
        return url if target is None else target.href


def _may_be_page(url: can_ada.URL) -> bool:
    return url.protocol in ("http:", "https:") and len(url.href) <= MAX_URL


# Each looks at a byte once and never goes back, so that no `srcset` takes longer than its length.
_URL = re.compile(r"[ \t\n\f\r,]*+([^ \t\n\f\r]++)")
_DESCRIPTORS = re.compile(r"(?:[^,(]++|\([^)]*+\)?)*+")
_DESCRIPTOR = re.compile(r"(?:[^ \t\n\f\r(]++|\([^)]*+\)?)++")
_INTEGER = r"[0-9]++"
_NUMBER = r"-?(?:[0-9]++(?:\.[0-9]++)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?"
_KINDS = re.compile(rf"(?:(?P<w>{_INTEGER})w|(?P<h>{_INTEGER})h|(?P<x>{_NUMBER})x)", re.A)
_LARGEST = 1e300  # what is larger is infinite as a float, which the standard refuses


def srcset_candidates(srcset: str) -> list[tuple[float, str]]:
    """The images of a `srcset` whose descriptors are valid: (width in px, or density, URL)."""
    candidates: list[tuple[float, str]] = []
    at = 0
    while match := _URL.match(srcset, at):
        url, at = match[1].rstrip(","), match.end()
        size: float | None = 1.0
        if url == match[1]:  # else the comma ends the candidate
            descriptors = _DESCRIPTORS.match(srcset, at)
            if descriptors:
                size, at = _size(_DESCRIPTOR.findall(descriptors[0])), descriptors.end()
        if size is not None:
            candidates.append((size, url))
    return candidates


def _size(descriptors: Sequence[str]) -> float | None:
    """The width or density of a candidate; None where its descriptors are not valid together."""
    sizes: dict[str, float] = {}
    for descriptor in descriptors:
        match = _KINDS.fullmatch(descriptor)
        if not match or not match.lastgroup or match.lastgroup in sizes:
            return None
        kind, value = match.lastgroup, float(match[match.lastgroup])
        if not (0 <= value < _LARGEST) or (value == 0 and kind != "x"):
            return None
        sizes[kind] = value
    if not sizes:
        return 1.0
    if "x" in sizes:
        return sizes["x"] if len(sizes) == 1 else None
    return sizes.get("w")  # a height alone is not valid
