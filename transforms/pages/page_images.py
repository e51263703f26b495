"""Pages to pairs: which image, and which text; and what a page states of its use. docs/inputs.md
says the rules.

Source: https://html.spec.whatwg.org/multipage/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import can_ada

from alignset.transforms.columns.pair_columns import META_ROBOTS, TDM_RESERVATION, ordered_opt_outs
from alignset.transforms.columns.web_urls import parse_url
from alignset.transforms.opt_outs.host_statements import (
    RSL_TYPE,
    has_directive,
    header_opt_outs,
    is_reserved,
    license_links,
    license_urls,
)
from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings
from alignset.transforms.pages.archives import Broken, read_to_end, unreadable
from alignset.transforms.pages.html_elements import TooCostlyError, encoding_of, read_elements
from alignset.transforms.pages.http_pages import MAX_URL, TOO_COSTLY, Page

HONOURED = OptOutSettings()
_TDM_RESERVATION = "tdm-reservation"
_AROUND = " \t\n\f\r/"  # a value without quotation marks has the slash that should end its tag


class PageWords(NamedTuple):
    """Opt-outs and licences of a page.

    Fields:
      opt_outs: details of `opted_out`, in their order.
      license: URL of the licence of its main content, or None.
      rsl: URLs of its licence files of RSL.
    """

    opt_outs: tuple[str, ...] = ()
    license: str | None = None
    rsl: tuple[str, ...] = ()


SILENT = PageWords()


def page_words(
    url: str,
    header: tuple[bytes, ...],
    metas: Iterable[tuple[str, str]],
    links: Iterable[tuple[str, str, str]],
    how: OptOutSettings,
) -> PageWords:
    """Opt-outs and licences of a page, by the attributes of its elements.

    Args:
      metas: (`name`, `content`). links: (`rel`, `href`, `type`).
    """
    directives, token = how.page_directives, how.user_agent_token
    opt_outs = set(header_opt_outs(header, how, directives)) if header else set()
    reserved: bool | None = None
    for name, content in metas:
        name, content = name.strip(_AROUND).lower(), content.strip(_AROUND)
        if name in ("robots", token.lower()):
            if has_directive(content, token, directives):
                opt_outs.add(META_ROBOTS)
        elif name == _TDM_RESERVATION and how.tdm_reservation:
            statement = is_reserved(content)
            reserved = reserved if statement is None else statement or bool(reserved)
    if reserved is not None:  # which comes before what the header says
        (opt_outs.add if reserved else opt_outs.discard)(TDM_RESERVATION)
    licenses = [
        (href, kind)
        for rel, href, kind in ((rel, href.strip(), kind) for rel, href, kind in links)
        if "license" in rel.lower().split() and 0 < len(href) <= MAX_URL
    ]
    of_rsl = [href for href, kind in licenses if RSL_TYPE in kind.lower()]
    files = license_urls([*(of.url for of in license_links(header, url)), *of_rsl], url)
    base = parse_url(url)
    targets = (parse_url(href, base) for href, _ in licenses)
    first = next((target.href[:MAX_URL] for target in targets if target), None)
    return PageWords(ordered_opt_outs(opt_outs), first, files)


# Where pages that load images late keep their URL, the most usual first.
LAZY_ATTRIBUTES = (
    *("data-src", "data-original", "data-lazy-src", "data-lazy", "data-url", "data-img-src"),
    *("data-actualsrc", "data-echo", "data-image", "data-hi-res-src", "data-srcurl"),
)
SRCSET_ATTRIBUTES = ("srcset", "data-srcset", "data-lazy-srcset", "data-original-set")
_SPACE = " \t\n\f\r"


class Found(NamedTuple):
    """One image with its text, as the page has them, and what the page says of its use."""

    url: str  # absolute, by the rules of the URL standard; as it stands where that cannot be
    text: str
    page: str
    words: PageWords = SILENT


class _Elements:
    """Collects the images of a page, and the elements in which it may say something of its use."""

    def __init__(self, url: str) -> None:
        # As the page has them, with its base and its URL there: joined, each has the long base.
        self.images: list[tuple[str, str, can_ada.URL | None, str]] = []
        self.metas: list[tuple[str, str]] = []
        self.links: list[tuple[str, str, str]] = []
        self._base = Base(url)
        self._pictures: list[str] = []  # of each that is open, the URL of its first `source`

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Processes a start tag."""
        if name == "img":
            text = attributes.get("alt")
            if text and not text.isspace():
                url = image_url(attributes) or (self._pictures[-1] if self._pictures else "")
                if url:
                    self.images.append((url, text, self._base.url, self._base.page))
        elif name == "picture":
            self._pictures.append("")
        elif name == "source":
            if self._pictures and not self._pictures[-1]:
                self._pictures[-1] = _largest(attributes)
        elif name == "base":
            self._base.set(attributes.get("href"))
        elif name == "meta":
            self.metas.append((attributes.get("name", ""), attributes.get("content", "")))
        elif rel := attributes.get("rel"):
            if name == "link":
                self._base.set_canonical(attributes)
            self.links.append((rel, attributes.get("href", ""), attributes.get("type", "")))

    def end_picture(self) -> None:
        """Processes the end of a `picture`."""
        if self._pictures:
            self._pictures.pop()


def images_of(page: Page, how: OptOutSettings = HONOURED) -> Iterator[Found | Broken]:
    """Parses a page. Returns its images with alt-texts, whose URLs are made as they are read.

    A page that is not read to its end has no image, since an opt-out may have been missed.

    Args:
      how: which opt-outs of the page are honoured.
    """
    elements, words = _Elements(page.url), SILENT
    try:
        html = str(page.body, encoding_of(page.body, page.charset), "replace")
        read_elements(html, elements)
        if elements.images:
            words = page_words(page.url, page.header, elements.metas, elements.links, how)
    except TooCostlyError:
        return iter([Broken(TOO_COSTLY, page.url)])
    except Exception as error:
        return iter([unreadable(error, page.url)])
    found = (
        Found(absolute_url(url, base), text, page_url, words)
        for url, text, base, page_url in elements.images
    )
    return read_to_end(found, page.url)


def absolute_url(url: str, base: can_ada.URL | None) -> str:
    """The absolute URL, or the same where that cannot be."""
    target = parse_url(url, base)
    return url if target is None else target.href


def image_url(attributes: Mapping[str, str | None]) -> str:
    """The URL that an `img` shows, or will show; empty where there is none."""
    for name in ("src", *LAZY_ATTRIBUTES):
        url = (attributes.get(name) or "").strip(_SPACE)
        if url and not _is_inline(url):  # which holds the image itself
            return url
    return _largest(attributes)


def _is_inline(url: str) -> bool:
    return url[:5].lower() in ("data:", "blob:", "about", "javas")


def _largest(attributes: Mapping[str, str | None]) -> str:
    for name in SRCSET_ATTRIBUTES:
        candidates = srcset_candidates(attributes.get(name) or "")
        usable = (candidate for candidate in candidates if not _is_inline(candidate[1]))
        if largest := max(usable, key=lambda candidate: candidate[0], default=None):
            return largest[1]  # the first of equals
    return ""


class Base:
    """The base of a page's relative URLs, and its own URL, or empty.

    Attributes:
      url: the base. page: the page's own.
    """

    def __init__(self, page: str) -> None:
        self.page = page
        self.url = parse_url(page)
        self._set = False

    def set(self, href: str | None) -> None:
        """By the first `base` that has a `href`; one that is not an http(s) URL changes nothing."""
        if self._set or href is None:
            return
        self._set = True
        base = parse_url(self.join(href.strip(_SPACE)))
        if base is not None and _may_be_page(base):
            self.url = base

    def set_canonical(self, link: Mapping[str, str | None]) -> None:
        """By a `link` of the page to itself, where nothing else tells its URL."""
        if self.page or "canonical" not in (link.get("rel") or "").lower().split():
            return
        page = parse_url((link.get("href") or "").strip(_SPACE))
        if page is None or not _may_be_page(page):
            return
        if not self._set:
            self.url = page
        self.page = page.href

    def join(self, url: str) -> str:
        """The absolute URL, or the same where that cannot be."""
        return absolute_url(url, self.url)


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


def srcset_candidates(srcset: str) -> Iterator[tuple[float, str]]:
    """The images of a `srcset` whose descriptors are valid: (width in px, or density, URL).

    >>> list(srcset_candidates("a.png 320w, b.png 2x 3x, c.png"))
    [(320.0, 'a.png'), (1.0, 'c.png')]
    """
    at = 0
    while match := _URL.match(srcset, at):
        url, at = match[1].rstrip(","), match.end()
        size: float | None = 1.0
        if url == match[1]:  # else the comma ends the candidate
            descriptors = _DESCRIPTORS.match(srcset, at)
            if descriptors:
                size, at = _size(_DESCRIPTOR.findall(descriptors[0])), descriptors.end()
        if size is not None:
            yield size, url


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
