"""Common Crawl's WAT records, which are JSON about pages, to the images of the pages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

import orjson
from selectolax.lexbor import LexborHTMLParser

from transforms.archive_members import Broken
from transforms.archives import Record, read_members_or_records, records_of
from transforms.http_pages import NO_RESPONSE, NOT_HTML, NOT_OK
from transforms.page_images import Base, Found, usable_url
from transforms.plain_urls import AS_IT_STANDS, put_before
from transforms.wat_links import PAGE, WITHOUT_RESPONSE, look

BAD_JSON = "bad_json"
_PATH = "IMG@/src"
_AT_ONCE = 1 << 19  # bytes of members that are looked through together, within a core's cache
_SURROGATE = re.compile("[\ud800-\udfff]")

Told = list[Found] | Broken | str


def read_wat(source: BinaryIO) -> Iterator[Told]:
    """Of each record the images with alt-texts of the page that it tells of; or why there is no
    page."""
    waiting: list[bytearray] = []
    size = 0
    for one in read_members_or_records(source):
        if isinstance(one, bytearray):
            waiting.append(one)
            size += len(one)
            if size < _AT_ONCE:
                continue
        yield from images_of_members(waiting)
        waiting, size = [], 0
        if not isinstance(one, bytearray):
            yield images_of_wat(one)
    yield from images_of_members(waiting)


def images_of_members(members: list[bytearray]) -> Iterator[Told]:
    """The same of whole members; parses only what is not as usual."""
    data, seen, links = look(members)
    for member, (kind, first, last, *url) in zip(members, seen, strict=True):
        found: Told | None = NO_RESPONSE if kind == WITHOUT_RESPONSE else None
        if kind == PAGE:
            found = _usual_images(data, links[first:last], *url) if last > first else []
        if found is not None:
            yield found
        else:
            yield from map(images_of_wat, records_of(member))


def _usual_images(
    data: bytes, links: list[list[int]], begin: int, end: int, form: int
) -> list[Found] | None:
    """The images of a page, whose URL is there; None where only a parser of all of it knows."""
    page = str(data[begin:end], "utf-8", "replace").strip("<>")
    before = put_before(page) if form == AS_IT_STANDS else []
    base, last = None if before else Base(page), len(before) - 1
    found = []
    try:
        for url_begin, url_end, text_begin, text_end, form, odd, begin, end in links:
            if odd or form < 0 or not before:
                if one := _image(orjson.loads(data[begin:end]), base or Base(page), page):
                    found.append(one)
                continue
            text = data[text_begin:text_end].decode()
            if not text.isspace():
                url = data[url_begin:url_end].decode()
                found.append(
                    Found((before[form] if form < last else before[last]) + url, text, page)
                )
    except ValueError:
        return None
    return found


def images_of_wat(record: Record | Broken) -> Told:
    """The same of one record, whose JSON is parsed."""
    if isinstance(record, Broken):
        return record
    if record.kind != b"metadata":
        return NO_RESPONSE
    try:
        return _parsed(_loads(bytes(record.block)))
    except (ValueError, LookupError, RecursionError, AttributeError, TypeError):
        return Broken(BAD_JSON, record.target)


def _loads(block: bytes) -> Any:
    try:
        return orjson.loads(block)
    except orjson.JSONDecodeError:  # lone surrogates, NaN, bytes that are no UTF-8
        text = json.dumps(json.loads(block.decode("utf-8", "replace")), ensure_ascii=False)
        return json.loads(_SURROGATE.sub("\ufffd", text))


def _parsed(whole: Any) -> list[Found] | str:
    envelope = whole["Envelope"]
    head = envelope.get("WARC-Header-Metadata") or {}
    if head.get("WARC-Type") != "response":
        return NO_RESPONSE
    response = (envelope.get("Payload-Metadata") or {}).get("HTTP-Response-Metadata") or {}
    if not str((response.get("Response-Message") or {}).get("Status", "")).startswith("2"):
        return NOT_OK
    page = response.get("HTML-Metadata")
    if page is None:
        return NOT_HTML
    url = str(head.get("WARC-Target-URI", "")).strip("<>")
    base = Base(url)
    base.set((page.get("Head") or {}).get("Base"))
    links = [one for one in page.get("Links") or [] if one.get("path") == _PATH]
    return [found for one in links if (found := _image(one, base, url))]


def _image(link: dict[str, Any], base: Base, page: str) -> Found | None:
    text, url = link.get("alt"), link.get("url")
    if not isinstance(text, str) or not isinstance(url, str):
        return None
    if "&" in text or "&" in url:
        text, url = _unescaped(text, url)
    return _found(url, text, base, page)


def _found(url: str, text: str, base: Base, page: str) -> Found | None:
    url = usable_url(url)
    return Found(base.join(url), text, page) if url and text and not text.isspace() else None


def _unescaped(text: str, url: str) -> tuple[str, str]:
    """Attributes as a page's parser reads them; a WAT has them as they stand in the page."""
    quoted = (value.replace('"', "&quot;") for value in (text, url))
    tree = LexborHTMLParser('<img alt="{}" src="{}">'.format(*quoted))
    (image,) = tree.tags("img")
    return image.attributes["alt"] or "", image.attributes["src"] or ""
