"""Web archives as the tests write them."""

import gzip

import pyarrow as pa


def response(
    body: bytes | str = b"", *fields: str, status: str = "200 OK", kind: str = "text/html"
) -> bytes:
    """An HTTP answer."""
    body = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}", *([f"Content-Type: {kind}"] if kind else []), *fields]
    return "\r\n".join([*lines, "", ""]).encode() + body


def record(
    url: str,
    block: bytes,
    *,
    kind: str = "response",
    content: str = "application/http; msgtype=response",
    length: object = None,
) -> bytes:
    """A record of a WARC, which may lie about its length."""
    lines = [
        "WARC/1.0",
        f"WARC-Type: {kind}",
        f"WARC-Target-URI: {url}",
        "WARC-Date: 2026-01-01T00:00:00Z",
        "WARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-000000000000>",
        f"Content-Type: {content}",
        f"Content-Length: {len(block) if length is None else length}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + block + b"\r\n\r\n"


def page_record(url: str, html: bytes | str, *fields: str) -> bytes:
    return record(url, response(html, *fields))


def packed(records: list[bytes], kind: str) -> bytes:
    """An archive: each record a member of its own, as crawlers write them."""
    if kind == "gz":
        return b"".join(gzip.compress(member, mtime=0) for member in records)
    if kind == "zst":
        return b"".join(pa.Codec("zstd").compress(member, asbytes=True) for member in records)
    return b"".join(records)
