"""Records of an archive to pages: which responses are HTML, and their bytes as in browsers."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Callable
from typing import NamedTuple

import brotli
import zstandard

from alignset.transforms.opt_outs.response_headers import states_opt_out
from alignset.transforms.pages.archive_members import Broken
from alignset.transforms.pages.archives import ArchiveRecord

BAD_HTTP, BAD_ENCODING, TOO_LARGE = "bad_http", "bad_encoding", "too_large"
LONG_URL = "long_url"
MAX_URL = 1 << 13  # characters of a page's URL, which each of its images has; servers take no more
MAX_PAGE = 1 << 25  # bytes, decoded; browsers give up later, but no page of alt-texts is that long
_MAX_HEAD = 1 << 16  # bytes of an answer's status line and fields; servers send some hundred
_HTTP_HEAD = re.compile(rb"\s*HTTP/\d+(?:\.\d+)?[ \t]+(\d{3})[^\n]*\n((?:[^\r\n][^\n]*\n)*)\r?\n?")
# A name is tried from its first letter on, so that each byte is looked at once.
_FIELD = re.compile(rb"(?<![^:\s])([^:\s]++)[ \t]*+:([^\n]*+)\n")
_HTML = re.compile(rb"text/html|application/xhtml\+xml", re.I)
_CHARSET = re.compile(rb";\s*charset\s*=\s*[\"']?([^\"';\s]+)", re.I)
_LOOKS_HTML = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<!--.*?-->\s*)?<(?:!doctype\s+html|html|head)", re.I | re.S
)
_CHUNK = re.compile(rb"[ \t]*([0-9a-fA-F]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n")
_GZIP = b"\x1f\x8b\x08"
_MOST_ENCODINGS = 4  # one over another, each of which may be a bomb

# What a record is if it is not a page: counted, and no fault.
NO_RESPONSE, NOT_OK, NOT_HTML = "no_response", "not_ok", "not_html"


class Page(NamedTuple):
    """One page as it was answered.

    Fields:
      url: of the page. body: its bytes, decoded. charset: as HTTP declares it, or empty.
      header: the lines of the answer's header where one states an opt-out.
      date: of the crawl, as an archive has it.
    """

    url: str
    body: bytes | memoryview
    charset: str = ""
    header: tuple[bytes, ...] = ()
    date: str = ""


def page_of(record: ArchiveRecord) -> Page | Broken | str:
    """The page that a record holds; or why that cannot be read; or one of the names above.

    Pages are HTML by their Content-Type, or by their first bytes where they have none, that were
    answered with a status of 200 to 299.
    """
    content_type = record.fields.get(b"content-type", b"")
    if record.kind == b"resource":
        if not _HTML.match(content_type) or not record.target.startswith(("http://", "https://")):
            return NO_RESPONSE
        return _page(record, {b"content-type": content_type}, record.block)
    if record.kind != b"response" or not content_type.lower().startswith(b"application/http"):
        return NO_RESPONSE
    head = _HTTP_HEAD.match(record.block, 0, _MAX_HEAD)
    if not head or (head.end() == head.end(2) and len(record.block) > _MAX_HEAD):
        return Broken(BAD_HTTP, record.target)
    if not head[1].startswith(b"2"):
        return NOT_OK
    fields: dict[bytes, bytes] = {}
    for name, value in _FIELD.findall(head[2]):
        fields.setdefault(name.lower(), value.strip())
    page = _page(record, fields, record.block[head.end() :])
    if isinstance(page, Page) and states_opt_out(head[2]):
        return page._replace(header=tuple(head[2].splitlines()))
    return page


def _page(
    record: ArchiveRecord, fields: dict[bytes, bytes], body: bytes | memoryview
) -> Page | Broken | str:
    content_type = fields.get(b"content-type", b"")
    if content_type and not _HTML.match(content_type):
        return NOT_HTML
    if not record.whole:
        return Broken(TOO_LARGE, record.target) if content_type else NOT_HTML
    try:
        content = _decoded(body, fields)
    except OverflowError:
        return Broken(TOO_LARGE, record.target)
    except ValueError:
        return Broken(BAD_ENCODING, record.target)
    if not content_type and not _LOOKS_HTML.match(content[:4096]):
        return NOT_HTML
    if len(record.target) > MAX_URL:
        return Broken(LONG_URL, record.target)
    charset = _CHARSET.search(content_type)
    return Page(
        record.target,
        content,
        charset[1].decode("latin1") if charset else "",
        date=record.fields.get(b"warc-date", b"").decode("latin1"),
    )


def _decoded(body: bytes | memoryview, fields: dict[bytes, bytes]) -> bytes | memoryview:
    """The page without chunks and compression. Crawlers often take them off and leave the fields
    that declare them, so that what does not begin as declared is taken as it is.

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
        decoder = _DECODERS.get(name.strip())
        if decoder and len(body):
            body = decoder(body)
    for _ in range(3):  # compressed twice, or without a word
        if bytes(body[:3]) == _GZIP:
            body = _gunzip(body)
    if len(body) > MAX_PAGE:
        raise OverflowError("too large")
    return body


def _unchunked(body: bytes | memoryview) -> memoryview:
    """As far as the chunks go: what was received is what a browser shows."""
    whole, at = bytearray(), 0
    while (head := _CHUNK.match(body, at)) and (size := int(head[1], 16)):
        whole += body[head.end() : head.end() + size]
        at = head.end() + size
        if bytes(body[at : at + 2]) == b"\r\n":
            at += 2
        elif bytes(body[at : at + 1]) == b"\n":
            at += 1
    return memoryview(whole)


def _limited(data: bytes, whole: bool) -> bytes:
    if len(data) > MAX_PAGE:
        raise OverflowError("too large")
    if not data and not whole:
        raise ValueError("nothing can be decoded")
    return data


def _inflate(body: bytes | memoryview, window: int) -> bytes:
    decoder, parts, size = zlib.decompressobj(window), [], 0
    try:
        for at in range(0, len(body), 1 << 14):  # so that what comes before a fault is had
            part = decoder.decompress(body[at : at + (1 << 14)], MAX_PAGE + 1 - size)
            parts.append(part)
            size += len(part)
            if size > MAX_PAGE or decoder.eof:
                break
    except zlib.error:
        return _limited(b"".join(parts), whole=False)
    return _limited(b"".join(parts), decoder.eof)


def _gunzip(body: bytes | memoryview) -> bytes | memoryview:
    return _inflate(body, 31) if bytes(body[:2]) == _GZIP[:2] else body


def _deflated(body: bytes | memoryview) -> bytes | memoryview:
    """Deflate in the frame of zlib, or bare as some servers have it, or not at all."""
    for window in (15, -15):
        try:
            return _inflate(body, window)
        except ValueError:
            continue
    return body


def _unbrotli(body: bytes | memoryview) -> bytes | memoryview:
    decoder, parts, size, whole = brotli.Decompressor(), [], 0, False
    try:
        part = decoder.process(bytes(body), output_buffer_limit=1 << 20)
        while part:
            parts.append(part)
            size += len(part)
            if size > MAX_PAGE:
                break
            part = decoder.process(b"", output_buffer_limit=1 << 20)
        whole = decoder.is_finished()
    except brotli.error:
        if not parts and _LOOKS_HTML.match(body[:4096]):
            return body
    return _limited(b"".join(parts), whole)


def _unzstd(body: bytes | memoryview) -> bytes | memoryview:
    if bytes(body[:4]) != b"\x28\xb5\x2f\xfd":
        return body
    reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(body))
    parts: list[bytes] = []
    whole = True
    try:
        while len(parts) * (1 << 16) <= MAX_PAGE and (part := reader.read(1 << 16)):
            parts.append(part)
    except zstandard.ZstdError:
        whole = False
    return _limited(b"".join(parts), whole)


_DECODERS: dict[bytes, Callable[[bytes | memoryview], bytes | memoryview]] = {
    b"gzip": _gunzip,
    b"x-gzip": _gunzip,
    b"deflate": _deflated,
    b"br": _unbrotli,
    b"zstd": _unzstd,
}
