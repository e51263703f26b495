"""What hostile bytes cost: sixteen times a text, a page, an image or a shard takes about sixteen
times as long."""

import gzip
import html.entities
import io
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest

from alignset.transforms.columns.web_urls import request_url
from alignset.transforms.fetching.robots import read_robots
from alignset.transforms.opt_outs.host_statements import header_opt_outs
from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings
from alignset.transforms.pages.archives import ArchiveRecord, read_records
from alignset.transforms.pages.http_pages import Page, page_of, page_of_wat
from alignset.transforms.pages.page_images import Base, images_of, srcset_candidates
from alignset.transforms.pairs.language_votes import found_languages
from alignset.transforms.pairs.texts import kept_text, measure_texts
from alignset.transforms.pairs.urls import url_identity
from tests.fuzz import counts, jpeg, pages, pictures, shards
from tests.fuzz.growth import LARGE, superlinear
from tests.fuzz.texts import OTHER_TOKENS
from tests.fuzz.urls import PIECES, TOKENS_OF_URLS
from tests.support.made_batches import language_rule
from tests.support.page_archives import page_record, record, response

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # each pattern at two sizes
ENTITIES = [f"&{name}" for name in ("amp;", "not", "CounterClockwiseContourIntegral;", "#0;", "#")]
MARKS = ["\u0f73", "\u0f75", "\u0f81", "\u0344", "\u0315\u0334", "\u1f82", "\u0345", "\u034f"]
LINES = [
    *("User-agent: alignset\n", "User-agent: *\n", "user-agent:x\n", "Disallow: /x\n", "a:b\n"),
    *("Disallow: /*a*a*a*a*b\n", "Allow: /*" + "a" * 90 + "b\n", "Allow: /$\n", "*", "a", "\n"),
    *("Allow: /a/index.html\n", "Crawl-delay: 1\n", "Sitemap:/\n", "#", ":", " ", "%61", "\x85"),
]
RULES = {"language": language_rule("en"), "langdetect": language_rule("de", "langdetect")}


def of_text(function: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda body: function(body.decode("utf-8", "replace"))


def languages(name: str) -> Callable[[bytes], object]:
    return of_text(lambda text: found_languages(pa.array([text], pa.string()), RULES[name]))


def words(text: str) -> object:
    return measure_texts(pa.array([text], pa.string()), np.ones(1, np.bool_))


def robots(text: str) -> object:
    read = read_robots(f"User-agent: *\n{text}".encode(), None, "alignset")
    return [read.opt_outs(f"http://a.example/{'a' * size}") for size in (10, 1000)]


def header(value: str) -> object:
    line = f"X-Robots-Tag: {value}".encode()
    return header_opt_outs([line, line], OptOutSettings(), {"noai"})


URL = "http://a.example/b/"


def page(body: bytes, before: bytes = b"", after: bytes = b"") -> None:
    for url in (URL, ""):
        list(images_of(Page(url, before + body + after)))


def joined(text: str) -> None:
    Base(URL).join(text)
    Base(f"http://{text}/").join("a")


def records(data: bytes, read: Callable[[ArchiveRecord], object] = bool) -> None:
    for item in read_records(io.BytesIO(data)):
        found = read(item) if isinstance(item, ArchiveRecord) else item
        if isinstance(found, Page) and read is page_of_wat:
            list(images_of(found))


def http_body(body: bytes) -> None:
    for field in (
        "Transfer-Encoding: chunked",
        "Content-Encoding: br",
        "Content-Encoding: deflate",
    ):
        records(record(URL, response(body, field)), page_of)
    records(record(URL, response(body, kind="")), page_of)


def archive(body: bytes) -> None:
    for before in (b"", page_record(URL, b""), gzip.compress(b"WARC/1.0\r\n"), b"WARC/1.0\r\n"):
        records(before + body)


def empty_member(data: bytes) -> bytes:
    """The start of a gzip member: its header, and a stored block that is not the last one."""
    return b"\x1f\x8b\x08" + bytes(7) + b"\x00%c\x00%c\xff" % (len(data), 255 - len(data)) + data


OPENED = (b"<wbr>", b"<source>", b"<div>", b"<a>", b"<table>", b"<BODY>")
ATTRIBUTES = (b" a|=|'|\"| alt=b| src=| srcset='a 1x,b 2x'|/|\n|&lt;").split(b"|")
DEEP = (
    b"<div></p>|<p><font>|</p>|</a>|<a><b></a>|<b><p></b>|<li>|<td>|<table>x<tr>|</br>|"
    b"<option>|<svg><desc>|<g></p>|<wbr>|&amp|<h1>"
).split(b"|")
PICTURES = (b"<source srcset=a>|<source srcset=' '>|<img alt=b>|<picture>|</picture>").split(b"|")
SRCSETS = [b",", b" ", b"a", b"1", b".", b"(", b")", b"1x", b"1w,", b"e+", b"\t", b"a b, ", b"\xa0"]
URLS = ["a", "/", ".", "..", "../", "%2e", "@", ":", "?", "#", "\\", "[", "\t", "xn--"]
LETTERS = ["\u4e00", "\u0f73", "\u0301\u0315", "\u00df", "\u1100\u1161", "\ufdfa", "\u3002"]
FIELDS = [b"a", b":", b" ", b"\r", b"\n", b"\r\n", b"a:b\r\n", b"a:b\r\n\t", b"gzip,"]
BODIES = (b"1\r\na\r\n|1\r\na|0|;| |<!---->|<!--|-->|<html>|\xff").split(b"|")
ARCHIVES = [
    *(*pages.JUNK, b"Content-Length: 0\r\n\r\n", b"Content-Length: 9\r\n\r\n", b"a:b\r\n", b"a"),
    *(empty_member(b""), empty_member(bytes(10)), b"\x00\x00\x00\xff\xff", zlib.compress(b"")),
]
# Each that comes anew is sought among all.
LETTERS_OF_ALL = "".join(chr(0x4E00 + n % 20_000) for n in range(400_000)).encode()
NAMES_OF_ALL = b"".join(b" a%d" % n for n in range(100_000))
HALF = LARGE // 2  # of what takes long: fewer bytes tell as much
IMAGE = b"<img alt=a src=b "


class Growing(NamedTuple):
    """A function of bytes, the tokens that make up patterns (`growth.py`), how many patterns,
    and the bytes of the large ones."""

    walk: Callable[[bytes], object]
    tokens: Sequence[bytes | str]
    count: int = 60
    size: int = LARGE


GROWING: dict[str, Growing] = {
    "kept text": Growing(
        of_text(kept_text), [*OTHER_TOKENS, *ENTITIES, *MARKS, *html.entities.html5][:80]
    ),
    "words": Growing(of_text(words), [*"ก่้ำのカ的犬ខ្កཀ་ ကာက\u200b\u200d-a1 ", *MARKS], 20, HALF),
    **{
        name: Growing(languages(name), [*OTHER_TOKENS, *MARKS, "the dog "], 20, HALF)
        for name in RULES
    },
    "identity of a URL": Growing(of_text(url_identity), [*TOKENS_OF_URLS, *PIECES]),
    "URL that is sent": Growing(of_text(request_url), [*TOKENS_OF_URLS, *PIECES]),
    "host that is sent": Growing(
        of_text(lambda url: request_url(f"http://{url}")), [*PIECES, *MARKS]
    ),
    "path that is sent": Growing(
        of_text(
            lambda url: (url_identity(f"http://{url}"), request_url(f"http://a.example/{url}"))
        ),
        [*PIECES, *MARKS],
    ),
    "robots.txt": Growing(of_text(robots), LINES),
    "X-Robots-Tag": Growing(
        of_text(header), [",", ":", "noai", "alignset:", " ", "unavailable_after: 1"]
    ),
    "page": Growing(page, pages.HTML_TOKENS, size=HALF),
    "deep": Growing(lambda body: page(body, b"<div>" * 1000 + b"<span>" * 900), DEEP, size=HALF),
    "opened": Growing(lambda body: page(body, b"<b><p>", b"</b>" * (len(body) // 4)), OPENED),
    "attributes": Growing(lambda body: page(body, IMAGE, b">"), ATTRIBUTES),
    "picture": Growing(lambda body: page(body, b"<picture>"), PICTURES),
    "srcset": Growing(lambda body: list(srcset_candidates(body.decode("latin1"))), SRCSETS),
    "url": Growing(of_text(joined), [*URLS, *LETTERS]),
    "http head": Growing(
        lambda body: records(record(URL, response(b"<html>", body.decode("latin1"))), page_of),
        FIELDS,
    ),
    "http body": Growing(http_body, BODIES),
    "archive": Growing(archive, ARCHIVES),
    "within gzip": Growing(lambda body: records(gzip.compress(body, 0)), ARCHIVES),
    **{
        f"wat {name}": Growing(
            lambda body, before=before, after=after: records(
                pages.member(before + body + after), page_of_wat
            ),
            pages.WAT_TOKENS,
            size=HALF if name == "member" else LARGE,
        )
        for name, (before, after) in pages.PLACES.items()
    },
    **{
        f"{module.__name__} {name}": Growing(*walk)
        for module in (counts, jpeg, pictures, shards)
        for name, walk in module.GROWTH.items()
    },
    "letters of a host": Growing(lambda body: of_text(joined)(LETTERS_OF_ALL[: len(body)]), [b"a"]),
    "names of attributes": Growing(
        lambda body: page(NAMES_OF_ALL[: len(body)], IMAGE, b">"), [b"a"]
    ),
    "digits of a character reference": Growing(
        lambda body: page(body, b"&#"), [b"1"], size=1 << 22
    ),
}


@pytest.mark.parametrize("name", GROWING)
def test_the_time_grows_with_the_bytes(name: str) -> None:
    walk, tokens, count, size = GROWING[name]
    encoded = [t if isinstance(t, bytes) else t.encode("utf-8", "replace") for t in tokens]
    walk(encoded[0] * 9)  # what is compiled or made once
    assert superlinear(walk, encoded, count, size) == []
