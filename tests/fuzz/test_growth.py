"""What hostile bytes cost: sixteen times a text, a page, an image or a shard takes about sixteen
times as long."""

import gzip
import html.entities
import io
import zlib
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pytest

from alignset.transforms.fetching.fetch_target import request_url
from alignset.transforms.fetching.robots import read_robots
from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings
from alignset.transforms.opt_outs.response_headers import header_opt_outs
from alignset.transforms.pages.archives import ArchiveRecord, read_records
from alignset.transforms.pages.http_pages import Page, page_of
from alignset.transforms.pages.page_images import Base, images_of, srcset_candidates
from alignset.transforms.pages.wat import page_of_wat
from alignset.transforms.pairs.language_votes import found_languages
from alignset.transforms.pairs.texts import kept_text, measure_texts
from alignset.transforms.pairs.urls import url_identity
from tests.fuzz import archives, counts, jpeg, pictures, shards, wat
from tests.fuzz import html as soup
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


def _languages(name: str, text: str) -> object:
    return found_languages(pa.array([text], pa.string()), RULES[name])


def _words(text: str) -> object:
    return measure_texts(pa.array([text], pa.string()), np.ones(1, np.bool_))


def _behind_a_scheme(url: str) -> object:
    return request_url(f"http://{url}")


def _host(url: str) -> object:
    return url_identity(f"http://{url}"), request_url(f"http://a.example/{url}")


def _robots(text: str) -> object:
    robots = read_robots(f"User-agent: *\n{text}".encode(), None, "alignset")
    return [robots.opt_outs(f"http://a.example/{'a' * size}") for size in (10, 1000)]


def _header(value: str) -> object:
    line = f"X-Robots-Tag: {value}".encode()
    return header_opt_outs([line, line], OptOutSettings(), {"noai"})


WHOLE: dict[str, tuple[Callable[[str], object], Sequence[str]]] = {
    "kept text": (kept_text, [*OTHER_TOKENS, *ENTITIES, *MARKS, *html.entities.html5][:80]),
    "words": (_words, [*"ก่้ำのカ的犬ខ្កཀ་ ကာက\u200b\u200d-a1 ", *MARKS]),
    **{name: (partial(_languages, name), [*OTHER_TOKENS, *MARKS, "the dog "]) for name in RULES},
    "identity of a URL": (url_identity, [*TOKENS_OF_URLS, *PIECES]),
    "URL that is sent": (request_url, [*TOKENS_OF_URLS, *PIECES]),
    "host that is sent": (_behind_a_scheme, [*PIECES, *MARKS]),
    "path that is sent": (_host, [*PIECES, *MARKS]),
    "robots.txt": (_robots, LINES),
    "X-Robots-Tag": (_header, [",", ":", "noai", "alignset:", " ", "unavailable_after: 1"]),
}


URL = "http://a.example/b/"


def page(body: bytes) -> None:
    for url in (URL, ""):
        list(images_of(Page(url, body)))


def deep(body: bytes) -> None:
    page(b"<div>" * 1000 + b"<span>" * 900 + body)


def opened(body: bytes) -> None:
    page(b"<b><p>" + body + b"</b>" * (len(body) // 4))


def attributes(body: bytes) -> None:
    page(b"<img alt=a src=b " + body + b">")


def picture(body: bytes) -> None:
    page(b"<picture>" + body)


def srcset(body: bytes) -> None:
    list(srcset_candidates(body.decode("latin1")))


def url(body: bytes) -> None:
    text = body.decode("utf-8", "replace")
    Base(URL).join(text)
    Base(f"http://{text}/").join("a")


def http_head(body: bytes) -> None:
    told(response(b"<html>", body.decode("latin1")))


def http_body(body: bytes) -> None:
    for field in (
        "Transfer-Encoding: chunked",
        "Content-Encoding: br",
        "Content-Encoding: deflate",
    ):
        told(response(body, field))
    told(response(body, kind=""))


def told(block: bytes) -> None:
    for read in read_records(io.BytesIO(record(URL, block))):
        page_of(read)


def archive(body: bytes) -> None:
    for before in (b"", page_record(URL, b""), gzip.compress(b"WARC/1.0\r\n"), b"WARC/1.0\r\n"):
        list(read_records(io.BytesIO(before + body)))


def within_gzip(body: bytes) -> None:
    list(read_records(io.BytesIO(gzip.compress(body, 0))))


def wat_of(before: bytes, after: bytes) -> Callable[[bytes], None]:
    def read(body: bytes) -> None:
        for item in read_records(io.BytesIO(wat.member(before + body + after))):
            told = page_of_wat(item) if isinstance(item, ArchiveRecord) else item
            if isinstance(told, Page):
                list(images_of(told))

    return read


ATTRIBUTES = (b" a|=|'|\"| alt=b| src=| srcset='a 1x,b 2x'|/|\n|&lt;").split(b"|")
DEEP = (
    b"<div></p>|<p><font>|</p>|</a>|<a><b></a>|<b><p></b>|<li>|<td>|<table>x<tr>|</br>|"
    b"<option>|<svg><desc>|<g></p>|<wbr>|&amp|<h1>"
).split(b"|")
PICTURES = (b"<source srcset=a>|<source srcset=' '>|<img alt=b>|<picture>|</picture>").split(b"|")
SRCSETS = [b",", b" ", b"a", b"1", b".", b"(", b")", b"1x", b"1w,", b"e+", b"\t", b"a b, ", b"\xa0"]
URLS = (b"a|/|.|..|../|%2e|@|:|?|#|\\|[|\t|xn--").split(b"|")
LETTERS = ["\u4e00", "\u0f73", "\u0301\u0315", "\u00df", "\u1100\u1161", "\ufdfa", "\u3002"]
FIELDS = [b"a", b":", b" ", b"\r", b"\n", b"\r\n", b"a:b\r\n", b"a:b\r\n\t", b"gzip,"]
BODIES = (b"1\r\na\r\n|1\r\na|0|;| |<!---->|<!--|-->|<html>|\xff").split(b"|")


def empty_member(data: bytes) -> bytes:
    """A gzip member's head and a piece of it, which goes on with whatever comes."""
    return b"\x1f\x8b\x08" + bytes(7) + b"\x00%c\x00%c\xff" % (len(data), 255 - len(data)) + data


ARCHIVES = [
    *(*archives.JUNK, b"Content-Length: 0\r\n\r\n", b"Content-Length: 9\r\n\r\n", b"a:b\r\n", b"a"),
    *(empty_member(b""), empty_member(bytes(10)), b"\x00\x00\x00\xff\xff", zlib.compress(b"")),
]
WALKS: dict[str, tuple[Callable[[bytes], None], list[bytes]]] = {
    "page": (page, soup.TOKENS),
    "deep": (deep, DEEP),
    "opened": (opened, [b"<wbr>", b"<source>", b"<div>", b"<a>", b"<table>", b"<BODY>"]),
    "attributes": (attributes, ATTRIBUTES),
    "picture": (picture, PICTURES),
    "srcset": (srcset, SRCSETS),
    "url": (url, URLS + [letter.encode() for letter in LETTERS]),
    "http head": (http_head, FIELDS),
    "http body": (http_body, BODIES),
    "archive": (archive, ARCHIVES),
    "within gzip": (within_gzip, ARCHIVES),
    **{f"wat {name}": (wat_of(*around), wat.TOKENS) for name, around in wat.PLACES.items()},
}


PARTS = {
    f"{target} {name}": walk
    for target, module in (
        *(("counts", counts), ("jpeg", jpeg), ("pictures", pictures), ("shards", shards)),
    )
    for name, walk in module.GROWTH.items()
}
SLOW = ("page", "deep", "wat member")  # a third of a MB a second: half the bytes tell as much


@pytest.mark.parametrize("name", WHOLE)
def test_the_time_grows_with_a_text(name: str) -> None:
    function, tokens = WHOLE[name]
    encoded = [token.encode("utf-8", "replace") for token in tokens]
    # ICU and the detectors take long: fewer patterns, of half the size, tell as much.
    count, size = (20, LARGE // 2) if name in ("words", *RULES) else (60, LARGE)
    found = superlinear(
        lambda body: function(body.decode("utf-8", "replace")), encoded, count, size
    )
    assert found == []


@pytest.mark.parametrize("name", WALKS | PARTS)
def test_the_time_grows_with_the_bytes(name: str) -> None:
    walk, tokens = (WALKS | PARTS)[name]
    walk(tokens[0] * 9)  # what is compiled or made once
    assert superlinear(walk, tokens, size=LARGE // 2 if name in SLOW else LARGE) == []


LETTERS_OF_ALL = "".join(chr(0x4E00 + n % 20_000) for n in range(400_000)).encode()
NAMES_OF_ALL = b"".join(b" a%d" % n for n in range(100_000))
DIFFERENT: dict[str, tuple[Callable[[bytes], None], bytes, int]] = {
    # Each that comes anew is sought among all.
    "letters of a host": (lambda body: url(LETTERS_OF_ALL[: len(body)]), b"a", LARGE),
    "names of attributes": (lambda body: attributes(NAMES_OF_ALL[: len(body)]), b"a", LARGE),
    "digits of a character reference": (lambda body: page(b"&#" + body), b"1", 1 << 22),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_the_time_grows_with_the_bytes_where_all_differ(name: str) -> None:
    walk, token, size = DIFFERENT[name]
    assert superlinear(walk, [token], size=size) == []
