"""Records of an archive to pages: which responses are HTML, and their bytes as in browsers; and of
Common Crawl's WAT records, which are JSON about pages, what they tell.

A WAT has attributes as they stand in a page. They are written back as HTML, so that images, base,
opt-outs and licence of a page follow the same rules whether it comes from a WARC or its WAT.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import brotli
import msgspec
import zstandard
from msgspec import Struct

from alignset.transforms.pages.archives import CHUNK, GZIP, ZSTD, ArchiveRecord, Broken, fields_of

BAD_HTTP, BAD_ENCODING = "bad_http", "bad_encoding"
TOO_LARGE, TOO_COSTLY = "too_large", "too_costly"
LONG_URL = "long_url"
MAX_URL = 1 << 13  # characters of a page's URL, which each of its images has; servers take no more
MAX_PAGE = 1 << 25  # bytes, decoded; browsers give up later, but no page of alt-texts is that long
_MAX_HEAD = 1 << 16  # bytes of an answer's status line and fields; servers send some hundred
_MOST_ENCODINGS = 4  # one over another, each of which may be a bomb
_HTTP_HEAD = re.compile(rb"\s*HTTP/\d+(?:\.\d+)?[ \t]+(\d{3})[^\n]*\n((?:[^\r\n][^\n]*\n)*)\r?\n?")
_HTML = re.compile(rb"text/html|application/xhtml\+xml", re.I)
_CHARSET = re.compile(rb";\s*charset\s*=\s*[\"']?([^\"';\s]+)", re.I)
_LOOKS_HTML = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<!--.*?-->\s*)?<(?:!doctype\s+html|html|head)", re.I | re.S
)
_CHUNK = re.compile(rb"[ \t]*([0-9a-fA-F]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n")
# How a body begins in each encoding.
_BEGINS = {b"gzip": GZIP[:2], b"x-gzip": GZIP[:2], b"zstd": ZSTD, b"deflate": b"", b"br": b""}

# What a record is if it is not a page: counted, and no fault.
NO_RESPONSE, NOT_OK, NOT_HTML = "no_response", "not_ok", "not_html"


class Page(NamedTuple):
    """One page as it was answered.

    Fields:
      url: of the page. body: its bytes, decoded. charset: as HTTP declares it, or empty.
      header: the lines of the answer's header.
      date: of the crawl, as an archive has it.
    """

    url: str
    body: bytes
    charset: str = ""
    header: tuple[bytes, ...] = ()
    date: str = ""


def page_of(record: ArchiveRecord) -> Page | Broken | str:
    """The page that a record holds; or why that cannot be read; or one of the names above.

    Pages are HTML by their Content-Type, or by their first bytes where they have none, that were
    answered with a status of 200 to 299.
    """
    content_type = record.fields.get(b"content-type", b"")
    fields, lines, start = {b"content-type": content_type}, b"", 0
    if record.kind == b"resource":
        if not _HTML.match(content_type) or not record.target.startswith(("http://", "https://")):
            return NO_RESPONSE
    elif record.kind != b"response" or not content_type.lower().startswith(b"application/http"):
        return NO_RESPONSE
    else:
        head = _HTTP_HEAD.match(record.block, 0, _MAX_HEAD)
        if not head or (head.end() == head.end(2) and len(record.block) > _MAX_HEAD):
            return Broken(BAD_HTTP, record.target)
        if not head[1].startswith(b"2"):
            return NOT_OK
        lines, start = head[2], head.end()
        fields = fields_of(lines)
        content_type = fields.get(b"content-type", b"")
    if content_type and not _HTML.match(content_type):
        return NOT_HTML
    if not record.whole:
        return Broken(TOO_LARGE, record.target) if content_type else NOT_HTML
    try:
        body = _decoded(record.block[start:], fields)
    except OverflowError:
        return Broken(TOO_LARGE, record.target)
    except ValueError:
        return Broken(BAD_ENCODING, record.target)
    if not content_type and not _LOOKS_HTML.match(body[:4096]):
        return NOT_HTML
    declared = _CHARSET.search(content_type)
    charset = declared[1].decode("latin1") if declared else ""
    date = record.fields.get(b"warc-date", b"").decode("latin1")
    return Page(record.target, body, charset, tuple(lines.splitlines()), date)


def _decoded(body: bytes, fields: dict[bytes, bytes]) -> bytes:
    """The page without chunks and compression.

    Raises:
      ValueError: nothing of it can be decoded, or it is said to be encoded more often than any.
      OverflowError: it is longer than MAX_PAGE.
    """
    names = fields.get(b"content-encoding", b"").lower().split(b",")
    if len(names) > _MOST_ENCODINGS:
        raise ValueError("encoded too often")
    if b"chunked" in fields.get(b"transfer-encoding", b"").lower() and _CHUNK.match(body):
        body = _unchunked(body)
    for name in reversed(names):
        body = _unpacked(name.strip(), body)
    for _ in range(3):  # compressed twice, or without a word
        if body.startswith(GZIP):
            body = _unpacked(b"gzip", body)
    if len(body) > MAX_PAGE:
        raise OverflowError("too large")
    return body


def _unchunked(body: bytes) -> bytes:
    """As far as the chunks go: what was received is what a browser shows."""
    whole, at = bytearray(), 0
    while (head := _CHUNK.match(body, at)) and (size := int(head[1], 16)):
        at = head.end() + size
        whole += memoryview(body)[head.end() : at]
        at += 2 if body[at : at + 2] == b"\r\n" else body[at : at + 1] == b"\n"
    return bytes(whole)


def _unpacked(name: bytes, body: bytes) -> bytes:
    """A body without one encoding. Crawlers often take it off and leave the field that declares it,
    so that what does not begin as declared is returned as it is."""
    begin = _BEGINS.get(name)
    if begin is None or not body.startswith(begin):
        return body
    for window in (15, -15) if name == b"deflate" else (31,):  # in zlib's frame, or bare
        whole, is_whole = bytearray(), False
        with suppress(zlib.error, brotli.error, zstandard.ZstdError):
            for part in _decompressed(name, window, body):
                whole += part
                if len(whole) > MAX_PAGE:
                    raise OverflowError("too large")
            is_whole = True
        if whole or is_whole:  # what came before a fault is what a browser shows
            return bytes(whole)
    if begin or (name == b"br" and body and not _LOOKS_HTML.match(body[:4096])):
        raise ValueError("nothing can be decoded")
    return body


def _decompressed(name: bytes, window: int, body: bytes) -> Iterator[bytes]:
    if name == b"br":
        brotli_decoder = brotli.Decompressor()
        while part := brotli_decoder.process(body, output_buffer_limit=1 << 20):
            yield part
            body = b""
        if not brotli_decoder.is_finished():
            raise brotli.error("cut off")
        return
    is_zstd = name == b"zstd"
    decoder: Any = (
        zstandard.ZstdDecompressor().decompressobj() if is_zstd else zlib.decompressobj(window)
    )
    for at in range(0, len(body), CHUNK):
        yield decoder.decompress(body[at : at + CHUNK])
        if decoder.eof:
            return
    raise zlib.error("cut off")


BAD_JSON = "bad_json"
_MOST_PARSED = 1 << 24  # bytes of a record, which a parser makes thirty times as much of


class _Link(Struct, gc=False):
    path: Any = None
    url: Any = None
    alt: Any = None
    rel: Any = None
    type: Any = None


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
        envelope = _read_wat(record.block).envelope
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


def _read_wat(block: bytes) -> _Wat:
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
            tags.append(_tag("link", rel=link.rel, href=link.url, type=link.type))
    return "".join([*tags, *images])


def _tag(tag: str, /, **attributes: Any) -> str:
    """A tag with those attributes that are texts."""
    written = [
        f' {attribute}="{value.replace(chr(34), "&quot;")}"'
        for attribute, value in attributes.items()
        if isinstance(value, str)
    ]
    return f"<{tag}{''.join(written)}>"
