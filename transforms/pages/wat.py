"""Common Crawl's WAT records, which are JSON about pages, to the images of the pages."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any, BinaryIO, TypeVar

import msgspec
import numpy as np
from selectolax.lexbor import LexborHTMLParser

from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings
from alignset.transforms.pages.archive_members import Broken, to_the_end, unreadable
from alignset.transforms.pages.archives import ArchiveRecord, read_records
from alignset.transforms.pages.http_pages import (
    LONG_URL,
    MAX_URL,
    NO_RESPONSE,
    NOT_HTML,
    NOT_OK,
    TOO_LARGE,
)
from alignset.transforms.pages.page_counts import PageTally, date_in_wat
from alignset.transforms.pages.page_images import Base, Found, FoundImage, usable_url
from alignset.transforms.pages.page_words import HONOURED, SILENT, PageWords, page_words
from alignset.transforms.pages.wat_links import ODD, PAGE, WITHOUT_RESPONSE, look

BAD_JSON = "bad_json"
_PATH = "IMG@/src"
BYTES_AT_ONCE = 1 << 19  # bytes of members that are looked through together, within a core's cache
_MOST_PARSED = 1 << 24  # bytes of a record, which a parser makes thirty times as much of
_NOT_AS_IT_SHOULD = ValueError, LookupError, RecursionError, AttributeError, TypeError
_SURROGATE = re.compile("[\ud800-\udfff]")

T = TypeVar("T")
Told = Iterable[FoundImage | Broken] | Broken | str


def read_wat(
    source: BinaryIO, tally: PageTally, how: OptOutSettings = HONOURED
) -> Iterator[FoundImage | Broken]:
    """The images with alt-texts of the pages that the records tell of, of many pages at once as far
    as they are usual; and what is broken. Counts the records, and which are of no page."""
    waiting: list[bytearray] = []
    size = 0
    for item in read_records(source):
        member = _member(item) if isinstance(item, ArchiveRecord) else item
        if isinstance(member, bytearray):
            waiting.append(member)
            size += len(member)
            if size < BYTES_AT_ONCE:
                continue
        yield from images_of_members(waiting, tally, how)
        waiting, size = [], 0
        if not isinstance(member, bytearray):
            yield from _counted(member, tally, how)
    yield from images_of_members(waiting, tally, how)


def _member(record: ArchiveRecord) -> bytearray | ArchiveRecord:
    """A record as a gzip member holds it, so that other containers are searched in the same way,
    and the same damage costs the same; a record that is too long as it is."""
    if not record.whole or len(record.block) > _MOST_PARSED:
        return record
    fields = b"".join(b"%s: %s\r\n" % field for field in record.fields.items())
    return bytearray(b"WARC/1.0\r\n%s\r\n%s\r\n\r\n" % (fields, record.block))


def images_of_members(
    members: list[bytearray], tally: PageTally, how: OptOutSettings = HONOURED
) -> Iterator[FoundImage | Broken]:
    """The same of whole members; parses only what is not as usual."""
    result = look(members, how.page_directives)
    pages, none = (int(np.count_nonzero(result.kinds == k)) for k in (PAGE, WITHOUT_RESPONSE))
    tally.update({"records": pages + none, "pages": pages, NO_RESPONSE: none})
    for at in np.flatnonzero(result.kinds == PAGE):
        tally.note_day(date_in_wat(members[at]))
    for url, of_page in groupby(result.objects(), key=itemgetter(0)):
        base = Base(url.decode("utf-8", "replace").strip("<>"))
        yield from _images((link for _, link in of_page), base, _loads)
    odd_members = (members[at] for at in np.flatnonzero(result.kinds == ODD))
    yield from _parsed_images(odd_members, tally, how)


def _images(
    links: Iterable[T], base: Base, parse: Callable[[T], Any], words: PageWords = SILENT
) -> Iterator[FoundImage | Broken]:
    """The images among a page's links, and one `bad_json` where any is not as it should be."""
    has_fault = False
    for link in links:
        try:
            image = _image(parse(link), base)
        except _NOT_AS_IT_SHOULD:
            if not has_fault:
                yield Broken(BAD_JSON, base.page)
            has_fault = True
        except Exception as error:
            yield unreadable(error, base.page)
        else:
            if image:
                yield image.with_words(words)


def _parsed_images(
    members: Iterable[bytearray], tally: PageTally, how: OptOutSettings
) -> Iterator[FoundImage | Broken]:
    for member in members:
        for record in read_records(io.BytesIO(member)):
            yield from _counted(record, tally, how)


def _counted(
    record: ArchiveRecord | Broken, tally: PageTally, how: OptOutSettings
) -> Iterator[FoundImage | Broken]:
    images = images_of_wat(record, how)
    tally["records"] += 1
    if isinstance(images, str):
        tally[images] += 1
    elif isinstance(images, Broken):
        yield images
    else:
        tally["pages"] += 1
        if isinstance(record, ArchiveRecord):
            tally.note_day(date_in_wat(record.block))
        yield from to_the_end(images, "" if isinstance(record, Broken) else record.target)


def images_of_wat(record: ArchiveRecord | Broken, how: OptOutSettings = HONOURED) -> Told:
    """The same of one record, whose JSON is parsed."""
    if isinstance(record, Broken):
        return record
    if record.kind != b"metadata":
        return NO_RESPONSE
    if not record.whole or len(record.block) > _MOST_PARSED:
        return Broken(TOO_LARGE, record.target)
    try:
        return _parsed(_loads(record.block), record.target, how)
    except _NOT_AS_IT_SHOULD:
        return Broken(BAD_JSON, record.target)
    except Exception as error:
        return unreadable(error, record.target)


def _loads(block: bytes | memoryview) -> Any:
    try:
        return msgspec.json.decode(block)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Lone surrogates, NaN, bytes that are not UTF-8.
        text = json.dumps(json.loads(str(block, "utf-8", "replace")), ensure_ascii=False)
        return json.loads(_SURROGATE.sub("\ufffd", text))


def _parsed(whole: Any, target: str, how: OptOutSettings) -> Told:
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
    if len(url) > MAX_URL:
        return Broken(LONG_URL, target)
    base = Base(url)
    base.set((page.get("Head") or {}).get("Base"))
    words = _words(url, response.get("Headers"), page, how)
    return _images(iter(page.get("Links") or ()), base, lambda link: link, words)


def _words(url: str, headers: Any, page: dict[str, Any], how: OptOutSettings) -> PageWords:
    """Opt-outs and licence of the page; malformed values are ignored."""
    head = page.get("Head")
    head = head if isinstance(head, dict) else {}
    lines = []
    for name, values in headers.items() if isinstance(headers, dict) else ():
        for value in values if isinstance(values, list) else [values]:
            lines.append(f"{name}: {value}".encode("utf-8", "replace"))
    metas, links, more = (
        [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
        for items in (head.get("Metas"), head.get("Link"), page.get("Links"))
    )
    meta_pairs = (_pair(meta, "name", "content") for meta in metas)
    link_pairs = (_pair(link, "rel", "url") for link in (*links, *more) if "rel" in link)
    return page_words(url, tuple(lines), meta_pairs, link_pairs, how)


def _pair(element: dict[str, Any], first: str, second: str) -> tuple[str, str]:
    return _unescaped(str(element.get(first) or ""), str(element.get(second) or ""))


def _image(link: dict[str, Any], base: Base) -> Found | None:
    text, url = link.get("alt"), link.get("url")
    if link.get("path") != _PATH or not isinstance(text, str) or not isinstance(url, str):
        return None
    text, url = _unescaped(text, url)
    url = usable_url(url)
    return Found(base.join(url), text, base.page) if url and text and not text.isspace() else None


def _unescaped(first: str, second: str) -> tuple[str, str]:
    """Two attributes as a page's parser reads them; a WAT has them as they stand in the page."""
    if "&" not in first and "&" not in second:
        return first, second
    values = (value.replace('"', "&quot;") for value in (first, second))
    tree = LexborHTMLParser('<img alt="{}" src="{}">'.format(*values))
    (image,) = tree.tags("img")
    return image.attributes["alt"] or "", image.attributes["src"] or ""
