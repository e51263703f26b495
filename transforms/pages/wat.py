"""Common Crawl's WAT records, which are JSON about pages, to pages of what they tell.

A WAT has attributes as they stand in a page. They are written back as HTML, so that images, base,
opt-outs and licence of a page follow the same rules whether it comes from a WARC or its WAT.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
from msgspec import Struct

from alignset.transforms.pages.archives import ArchiveRecord, Broken
from alignset.transforms.pages.http_pages import NO_RESPONSE, NOT_HTML, NOT_OK, TOO_LARGE, Page

BAD_JSON = "bad_json"
_MOST_PARSED = 1 << 24  # bytes of a record, which a parser makes thirty times as much of


class _Link(Struct, gc=False):
    path: Any = None
    url: Any = None
    alt: Any = None
    rel: Any = None


class _Meta(Struct, gc=False):
    name: Any = None
    content: Any = None


class _Head(Struct, rename="pascal"):
    base: Any = None
    metas: list[_Meta] | None = None
    link: list[_Link] | None = None


class _Html(Struct, rename="pascal"):
    head: _Head | None = None
    links: list[_Link] | None = None


class _Message(Struct, rename="pascal"):
    status: Any = None


class _Response(
    Struct, rename={"message": "Response-Message", "headers": "Headers", "html": "HTML-Metadata"}
):
    message: _Message | None = None
    headers: dict[str, Any] | None = None
    html: _Html | None = None


class _Payload(Struct, rename={"response": "HTTP-Response-Metadata"}):
    response: _Response | None = None


class _Fields(
    Struct, rename={"kind": "WARC-Type", "target": "WARC-Target-URI", "date": "WARC-Date"}
):
    kind: str | None = None
    target: str = ""
    date: str = ""


class _Envelope(Struct, rename={"fields": "WARC-Header-Metadata", "payload": "Payload-Metadata"}):
    fields: _Fields | None = None
    payload: _Payload | None = None


class _Wat(Struct, rename="pascal"):
    envelope: _Envelope


_DECODER = msgspec.json.Decoder(_Wat)


def page_of_wat(record: ArchiveRecord) -> Page | Broken | str:
    """The page that a record tells of, as `page_of` gives it: HTML of its images with an alt-text,
    its base, `meta` elements and licences."""
    if record.kind != b"metadata":
        return NO_RESPONSE
    if not record.whole or len(record.block) > _MOST_PARSED:
        return Broken(TOO_LARGE, record.target)
    try:
        envelope = _decoded(record.block).envelope
    except (msgspec.DecodeError, ValueError, RecursionError):
        return Broken(BAD_JSON, record.target)
    fields = envelope.fields or _Fields()
    if fields.kind != "response":
        return NO_RESPONSE
    response = (envelope.payload or _Payload()).response or _Response()
    if not str((response.message or _Message()).status).startswith("2"):
        return NOT_OK
    if response.html is None:
        return NOT_HTML
    url = _bytes_of(fields.target).decode().strip("<>")
    lines = []
    for name, values in (response.headers or {}).items():
        for value in values if isinstance(values, list) else [values]:
            lines.append(_bytes_of(f"{name}: {value}"))
    return Page(url, _bytes_of(_html_of(response.html)), "utf-8", tuple(lines), fields.date)


def _decoded(block: bytes) -> _Wat:
    try:
        return _DECODER.decode(block)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Lone surrogates, control characters, bytes that are not UTF-8.
        whole = json.loads(str(block, "utf-8", "replace"), strict=False)
        return msgspec.convert(whole, _Wat)


def _bytes_of(text: str) -> bytes:
    """UTF-8, in which a lone surrogate is the reference that stands for U+FFFD."""
    return text.encode("utf-8", "xmlcharrefreplace")


def _html_of(page: _Html) -> str:
    """The tags that matter; none where there is no image."""
    links = page.links or []
    images = [
        _tag("img", src=link.url, alt=link.alt)
        for link in links
        if link.alt and link.path == "IMG@/src"
    ]
    if not images:
        return ""
    head = page.head or _Head()
    tags = [_tag("base", href=head.base)]
    tags += [_tag("meta", name=meta.name, content=meta.content) for meta in head.metas or ()]
    for link in (*(head.link or ()), *links):
        if "license" in str(link.rel).lower():
            tags.append(_tag("link", rel=link.rel, href=link.url))
    return "".join([*tags, *images])


def _tag(tag: str, /, **attributes: Any) -> str:
    """A tag with those attributes that are texts."""
    written = [
        f' {attribute}="{value.replace(chr(34), "&quot;")}"'
        for attribute, value in attributes.items()
        if isinstance(value, str)
    ]
    return f"<{tag}{''.join(written)}>"
