"""Common Crawl's WAT records, which are JSON about pages, to the images of the pages.

A record has a hundred links for each that is an image's, so that most of it is never parsed: link
objects are found by their `path`. Bytes that look like that within a string would have their
quotation marks escaped, and an object that is cut out wrongly is no JSON; then, and wherever else
something is not as usual, all of the record is parsed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import orjson
from selectolax.lexbor import LexborHTMLParser

from transforms.archive_members import Broken
from transforms.archives import Record
from transforms.http_pages import NO_RESPONSE, NOT_HTML, NOT_OK
from transforms.page_images import Base, Found, image_url

BAD_JSON = "bad_json"
_PATH = "IMG@/src"
_KEY, _IMAGE = b'"path":', b'"IMG@/src"'
_TARGET = re.compile(rb'"WARC-Target-URI":"([^"\\]*)"')
_HEADER, _TYPE = b'"WARC-Header-Metadata":{', b'"WARC-Type":"'
_RESPONSE, _OK = b'"WARC-Type":"response"', b'"Status":"2'
_HTML, _BASE = b'"HTML-Metadata":{', b'"Base":'
_SURROGATE = re.compile("[\ud800-\udfff]")


def images_of_wat(record: Record) -> list[Found] | Broken | str:
    """The images with alt-texts of the page that a record tells of; or why there is no page."""
    block = bytes(record.block)
    if record.kind != b"metadata":
        return NO_RESPONSE
    if not block.rstrip().endswith(b"}") or not block.startswith(b"{"):
        return Broken(BAD_JSON, record.target)
    usual = _usual(block)
    if usual is not None:
        return usual
    try:
        return _parsed(_loads(block))
    except (ValueError, RecursionError, AttributeError, TypeError):
        return Broken(BAD_JSON, record.target)


def _usual(block: bytes) -> list[Found] | str | None:
    """The images, found without parsing all; None where it must be parsed."""
    begin = block.find(_HTML)
    head = block[:begin] if begin >= 0 else block
    if head.count(_TYPE) != 1 or head.count(_HEADER) != 1:
        return None
    if _RESPONSE not in head:
        return NO_RESPONSE
    targets = _TARGET.findall(head)
    if begin < 0 or head.count(_OK) != 1 or len(targets) != 1 or _BASE in block:
        return None
    page = targets[0].decode("utf-8", "replace").strip("<>")
    base = Base(page)
    try:
        return [one for link in _links(block) if (one := _image(link, base, page))]
    except ValueError:
        return None


def _links(block: bytes) -> Iterator[dict[str, Any]]:
    at = block.find(_IMAGE)
    while at >= 0:
        begin = at - len(_KEY)
        if block[begin:at] != _KEY:
            raise ValueError("not as usual")
        start = block.rfind(b'{"', 0, begin + 1)
        stop = block.find(b'"}', at + len(_IMAGE) - 1) + 2
        yield orjson.loads(block[start:stop])
        at = block.find(_IMAGE, stop)


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
    url = image_url({"src": url})
    return Found(base.join(url), text, page) if url and text and not text.isspace() else None


def _unescaped(text: str, url: str) -> tuple[str, str]:
    """Attributes as a page's parser reads them; a WAT has them as they stand in the page."""
    quoted = (value.replace('"', "&quot;") for value in (text, url))
    tree = LexborHTMLParser('<img alt="{}" src="{}">'.format(*quoted))
    (image,) = tree.tags("img")
    return image.attributes["alt"] or "", image.attributes["src"] or ""
