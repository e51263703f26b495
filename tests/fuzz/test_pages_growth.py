"""Pages, archives and WATs take time in proportion to their size, whatever they repeat."""

import gzip
import io
import zlib
from collections.abc import Callable

import pytest

from alignset.transforms.pages.archives import ArchiveRecord, read_records
from alignset.transforms.pages.http_pages import Page, page_of
from alignset.transforms.pages.page_images import Base, images_of, srcset_candidates
from alignset.transforms.pages.wat import page_of_wat
from tests.fuzz import archives, html, wat
from tests.fuzz.growth import LARGE, superlinear
from tests.support.page_archives import page_record, record, response

pytestmark = pytest.mark.slow  # each pattern at three sizes
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
    "page": (page, html.TOKENS),
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


# A third of a MB a second, so that half the bytes tell as much.
SLOW = ("page", "deep", "wat member")


@pytest.mark.parametrize("name", WALKS)
def test_time_grows_with_the_bytes(name: str) -> None:
    walk, tokens = WALKS[name]
    walk(tokens[0] * 9)  # what is compiled or made once
    size = LARGE // 2 if name in SLOW else LARGE
    assert superlinear(walk, tokens, size=size) == []


def test_names_of_other_letters_take_no_longer_than_their_length() -> None:
    """All different: each that comes anew is sought among all."""
    letters = "".join(chr(0x4E00 + n % 20_000) for n in range(400_000)).encode()
    assert superlinear(lambda body: url(letters[: len(body)]), [b"a"]) == []


def test_a_long_character_reference_takes_no_longer_than_its_length() -> None:
    assert superlinear(lambda body: page(b"&#" + body), [b"1"], size=1 << 22) == []


def test_attributes_of_other_names_take_no_longer_than_their_length() -> None:
    names = b"".join(b" a%d" % n for n in range(100_000))
    assert superlinear(lambda body: attributes(names[: len(body)]), [b"a"]) == []
