"""HTTP answers to pages: chunks, compressions, and what is not a page."""

import gzip
import io
import random
import tracemalloc
import zlib

import brotli
import pytest
import zstandard

from alignset.transforms.pages import http_pages
from alignset.transforms.pages.archives import Broken, read_records
from alignset.transforms.pages.http_pages import Page, page_of
from tests.support.page_archives import record, response

URL = "http://a.example/"
HTML = b"<!doctype html><p>a page</p>" + b"<br>" * 50
# Without the time: bodies are in the names of tests, which all workers must find alike.
GZIP = gzip.compress(HTML, mtime=0)
GZIP_TWICE = gzip.compress(GZIP, mtime=0)


def page(block: bytes, **how: str) -> Page | Broken | str:
    (read,) = read_records(io.BytesIO(record(URL, block, **how)))
    assert not isinstance(read, Broken)
    return page_of(read)


def body(*fields: str, data: bytes = HTML) -> bytes | str:
    answered = page(response(data, *fields))
    return (
        bytes(answered.body)
        if isinstance(answered, Page)
        else getattr(answered, "detail", answered)
    )


def chunked(data: bytes, size: int = 10) -> bytes:
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x;a=b\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


CHUNKED = "Transfer-Encoding: chunked"


def encoding(name: str) -> str:
    return f"Content-Encoding: {name}"


def bare_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("fields", "data"),
    [
        ((), HTML),
        ((CHUNKED,), chunked(HTML)),
        ((CHUNKED,), HTML),  # taken off by the crawler
        ((CHUNKED,), chunked(HTML)[:-5]),
        ((CHUNKED, encoding("gzip")), chunked(GZIP)),
        ((encoding("gzip"),), GZIP),
        ((encoding("GZIP"),), HTML),
        ((encoding("x-gzip"),), GZIP[:-8]),
        ((encoding("gzip, gzip"),), GZIP_TWICE),
        ((encoding("gzip"),), GZIP_TWICE),
        ((), GZIP),
        ((encoding("deflate"),), zlib.compress(HTML)),
        ((encoding("deflate"),), bare_deflate(HTML)),
        ((encoding("br"),), brotli.compress(HTML)),
        ((encoding("br"),), HTML),
        ((encoding("zstd"),), zstandard.compress(HTML)),
        ((encoding("zstd"),), HTML),
        ((encoding("gzip, br"),), brotli.compress(GZIP)),
        ((encoding("identity"),), HTML),
        ((encoding("no such"),), HTML),
    ],
)
def test_a_page_as_a_browser_has_it(fields: tuple[str, ...], data: bytes):
    assert body(*fields, data=data) == HTML


PACKERS = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
}


@pytest.mark.parametrize("name", PACKERS)
def test_a_page_in_part_and_a_bomb(name: str, monkeypatch: pytest.MonkeyPatch):
    long = b"<!doctype html>" + random.Random(0).randbytes(1 << 19).hex().encode()
    packed = PACKERS[name](long)
    start = body(encoding(name), data=packed[: len(packed) // 2])
    assert isinstance(start, bytes)
    assert len(start) > 1000
    assert long.startswith(start)
    assert name == "br" or body(encoding(name), data=packed + b"junk") == long
    assert body(encoding(name), data=PACKERS[name](b"")) == b""
    monkeypatch.setattr(http_pages, "MAX_PAGE", 1 << 20)
    assert body(encoding(name), data=PACKERS[name](bytes(1 << 20))) == bytes(1 << 20)
    assert body(encoding(name), data=PACKERS[name](bytes((1 << 20) + 1))) == "too_large"
    assert body(data=bytes((1 << 20) + 1)) == "too_large"


@pytest.mark.parametrize(
    ("read", "why"),
    [
        (lambda: page(b""), Broken("bad_http", URL)),
        (lambda: page(b"<html>"), Broken("bad_http", URL)),
        (lambda: page(response(b"\x1f\x8bxx", encoding("gzip"))), Broken("bad_encoding", URL)),
        (lambda: page(response(b"\x81\x82\x83", encoding("br"))), Broken("bad_encoding", URL)),
        (lambda: page(response(HTML, status="404 Not Found")), "not_ok"),
        (lambda: page(response(HTML, status="301 Moved")), "not_ok"),
        (lambda: page(response(HTML, kind="image/png")), "not_html"),
        (lambda: page(response(HTML, kind="text/plain")), "not_html"),
        (lambda: page(response(b"\x89PNG", kind="")), "not_html"),
        (lambda: page(response(HTML), kind="revisit"), "no_response"),
        (lambda: page(response(HTML), kind="request"), "no_response"),
        (lambda: page(b"20260101 a.example", content="text/dns"), "no_response"),
        (lambda: page(HTML, kind="resource", content="text/plain"), "no_response"),
        (lambda: page(HTML, kind="conversion", content="text/plain"), "no_response"),
    ],
)
def test_what_is_no_page(read, why):
    assert read() == why


def test_comments_before_a_page_take_no_more_than_a_look():
    """Thirty of them took hours."""
    comments = b"\n<!-- a --><!---->" * 200
    assert body(data=b"\xef\xbb\xbf" + comments + HTML) == b"\xef\xbb\xbf" + comments + HTML
    assert page(response(comments + HTML, kind="")).body == comments + HTML
    assert page(response(comments + b"a page", kind="")) == "not_html"


def test_a_long_head():
    fields = [f"X-{n}: {'x' * 1000}" for n in range(60)]
    assert body(*fields) == HTML
    assert body(*fields, *fields) == "bad_http"
    assert page(b"HTTP/1.1 200 OK\r\n" + b"a: b\n" * 20_000 + b"\r\n" + HTML).detail == "bad_http"
    spaced = b"HTTP/1.1 200 OK\r\n: x\r\na b : c\r\nContent-Type :\t text/html \r\n\r\n"
    assert page(spaced + HTML).body == HTML


def test_encoded_more_often_than_anything():
    packed = HTML
    for _ in range(5):
        packed = gzip.compress(packed)
    assert body(encoding(", ".join(["gzip"] * 4)), data=packed) == HTML
    assert body(encoding(", ".join(["gzip"] * 5)), data=packed) == "bad_encoding"


@pytest.mark.slow
def test_many_chunks_take_little_more_than_their_bytes():
    many = b"1\r\na\r\n" * (1 << 17)
    tracemalloc.start()
    try:
        assert len(body(CHUNKED, data=many)) == 1 << 17
        assert tracemalloc.get_traced_memory()[1] < 8 * len(many)
    finally:
        tracemalloc.stop()


def test_what_is_one_all_the_same():
    assert page(response(HTML, kind="")).body == HTML
    assert page(response(HTML, kind="application/xhtml+xml; charset=x")).charset == "x"
    assert page(response(HTML, kind='text/HTML;Charset="Latin1"')).charset == "Latin1"
    assert page(response(HTML, status="203 Other")).body == HTML
    assert page(response(HTML, status="200")).body == HTML
    assert page(response(HTML, "Content-Length: 5")).body == HTML
    folded = page(response(HTML, kind="text/html;\r\n charset=koi8-r"))
    assert folded[:3] == (URL, HTML, "koi8-r")
    opted_out = page(response(HTML, "X-Robots-Tag: noai"))
    assert opted_out.header[-1] == b"X-Robots-Tag: noai"
    assert page(HTML, kind="resource", content="text/html").body == HTML
    assert page(b"HTTP/2 200\nContent-Type: text/html\n\n" + HTML).body == HTML
    assert bytes(page(response(b"")).body) == b""
