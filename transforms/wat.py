"""Common Crawl's WAT records, which are JSON about pages, to the images of the pages."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np
import orjson
from selectolax.lexbor import LexborHTMLParser

from transforms.archive_members import Broken
from transforms.archives import Record, read_members_or_records, records_of
from transforms.http_pages import NO_RESPONSE, NOT_HTML, NOT_OK
from transforms.page_images import Base, Found, usable_url
from transforms.wat_links import ODD, PAGE, WITHOUT_RESPONSE, Images, Seen, look

BAD_JSON = "bad_json"
_PATH = "IMG@/src"
_AT_ONCE = 1 << 19  # bytes of members that are looked through together, within a core's cache
_SURROGATE = re.compile("[\ud800-\udfff]")

Told = list[Found] | Broken | str


def read_wat(source: BinaryIO, counts: Counter[str]) -> Iterator[Images | Found | Broken]:
    """The images with alt-texts of the pages that the records tell of, of many pages at once as far
    as they are usual; and what is broken. Counts the records, and which are of no page."""
    waiting: list[bytearray] = []
    size = 0
    for one in read_members_or_records(source):
        if isinstance(one, bytearray):
            waiting.append(one)
            size += len(one)
            if size < _AT_ONCE:
                continue
        yield from images_of_members(waiting, counts)
        waiting, size = [], 0
        if not isinstance(one, bytearray):
            yield from _counted(images_of_wat(one), counts)
    yield from images_of_members(waiting, counts)


def images_of_members(
    members: list[bytearray], counts: Counter[str]
) -> Iterator[Images | Found | Broken]:
    """The same of whole members; parses only what is not as usual."""
    try:
        seen = look(members)
        odd = [found for link in _odd_links(seen) if (found := _image(*link))]
    except ValueError:  # in one of them, which only a parser of all of it can read
        if len(members) > 1:
            for one in members:
                yield from images_of_members([one], counts)
        else:
            yield from _parsed_images(members, counts)
        return
    yield from seen.images
    yield from odd
    kinds = seen.kinds
    pages, none = (int(np.count_nonzero(kinds == kind)) for kind in (PAGE, WITHOUT_RESPONSE))
    counts.update({"records": pages + none, "pages": pages, NO_RESPONSE: none})
    yield from _parsed_images((members[at] for at in np.flatnonzero(kinds == ODD)), counts)


def _odd_links(seen: Seen) -> Iterator[tuple[dict[str, Any], Base, str]]:
    known, page, base = -1, "", Base("")
    for url_begin, url_end, begin, end in seen.odd.tolist():
        if url_begin != known:
            known, page = url_begin, seen.data[url_begin:url_end].decode().strip("<>")
            base = Base(page)
        yield orjson.loads(seen.data[begin:end]), base, page


def _parsed_images(members: Iterable[bytearray], counts: Counter[str]) -> Iterator[Found | Broken]:
    for member in members:
        for record in records_of(member):
            yield from _counted(images_of_wat(record), counts)


def _counted(told: Told, counts: Counter[str]) -> Iterator[Found | Broken]:
    counts["records"] += 1
    if isinstance(told, list):
        counts["pages"] += 1
        yield from told
    elif isinstance(told, str):
        counts[told] += 1
    else:
        yield told


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
