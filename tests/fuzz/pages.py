"""Archives in which some records are damaged, tag soup, and pieces of WAT records."""

from __future__ import annotations

import functools
import gzip
import io
import re
import zipfile
import zlib
from random import Random
from unittest.mock import patch

import brotli
import zstandard
from lxml import etree

from alignset.transforms.pages.archives import ArchiveRecord, Broken, read_records
from alignset.transforms.pages.http_pages import Page, page_of
from alignset.transforms.pages.page_images import images_of
from alignset.transforms.rules.given import PAGE_FAULTS
from tests.support.page_archives import packed, page_record, record, response

gzipped = functools.partial(gzip.compress, mtime=0)  # the same whenever a case is made again
ENCODINGS = {
    "gzip": gzipped,
    "x-gzip": gzipped,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
    "identity": bytes,
}
JUNK = [
    *(b"\r\n", b"\n", b"\r", b":", b" ", b"\x00", b"\xff", b"WARC/1.0\r\n", b"WARC/", b"\r\n\r\n"),
    *(b"WARC/1.0\r\nContent-Length: 3\r\n\r\nabc\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"a" * 100),
    *(b"\x1f\x8b\x08", gzipped(b"junk"), gzipped(b""), b"\x1f\x8b\x08" + bytes(7)),
    *(b"\x28\xb5\x2f\xfd", zstandard.compress(b"junk"), b"\x5d\x2a\x4d\x18", b"PK\x03\x04"),
    *(b"Content-Encoding: gzip\r\n", b"Transfer-Encoding: chunked\r\n", b"5\r\nabcde\r\n0\r\n\r\n"),
    *(b"Content-Type: text/html; charset=utf-16\r\n", b"<!--", b"<meta charset=iso-2022-jp>"),
]
URL = "http://a.example/"


def page(number: int, random: Random) -> bytes:
    """A record of a page with one image, encoded in some ways or none."""
    body = f"<html><img src='{number}.png' alt='picture {number}'>{'<br>' * random.choice([0, 99])}"
    names = random.choices(list(ENCODINGS), k=random.choice([0, 0, 1, 1, 2]))
    data = body.encode()
    for name in names:
        data = ENCODINGS[name](data)
    fields = [f"Content-Encoding: {', '.join(names)}"] if names else []
    if random.random() < 0.3:
        fields.append("Transfer-Encoding: chunked")
        data = b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)
    return page_record(URL, data, *fields)


def damaged(member: bytes, random: Random) -> bytes:
    body = bytearray(member)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(body) + 1)
        kind = random.random()
        if kind < 0.4 and at < len(body):
            body[at] = random.randrange(256)
        elif kind < 0.7:
            body[at:at] = b"".join(random.choices(JUNK, k=random.randint(1, 3)))
        elif kind < 0.8:
            body[at:at] = random.choice(JUNK) * random.randint(1, 300)
        elif kind < 0.9:
            del body[at : at + random.choice([1, 2, 10, 100])]
        else:
            del body[at:]
    return bytes(body)


def overwritten(member: bytes, random: Random) -> bytes:
    """Damaged, but of the length that it claims, and the next begins a line: else it may claim the
    next record too."""
    length = re.search(rb"Content-Length: \d+\r\n", member)
    assert length
    parts = member[: length.start()], member[length.end() :]
    before, after = ((damaged(part, random) + part)[: len(part)] for part in parts)
    return before + length[0] + after + b"\r\n"


def wrapped(data: bytes, random: Random) -> bytes:
    """Itself, or within another file."""
    kind = random.random()
    if kind < 0.8:
        return data
    if kind < 0.9 and data[:3] == b"\x1f\x8b\x08":
        return gzipped(data)
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", random.choice([0, 8])) as file:
        file.writestr(zipfile.ZipInfo("archive/a.warc"), data, file.compression)
        file.writestr(zipfile.ZipInfo("pages/pages.jsonl"), "{}")
    return zipped.getvalue()


def pictures(data: bytes) -> set[bytes]:
    """The pictures of the pages that are read."""
    found, rows = set(), 0
    for read in read_records(io.BytesIO(data)):
        rows += 1
        page = page_of(read) if isinstance(read, ArchiveRecord) else read
        if isinstance(page, Page):
            found |= set(re.findall(rb"'(picture \d)'", page.body))
        else:
            assert isinstance(page, str) or page.detail in PAGE_FAULTS
    assert rows <= len(data)
    return found


def check_archives(random: Random) -> None:
    """Reading ends in pairs and faults, and the pairs of all whole records are there, however much
    is read at once."""
    kind = random.choice(["plain", "gz", "zst"])
    pages = [page(number, random) for number in range(5)]
    broken = set(random.sample(range(1, 5), random.randint(0, 2)))  # the first tells of which kind
    members = [packed([raw], kind) for raw in pages]
    for number in broken:
        if kind == "plain":
            members[number] = overwritten(members[number], random)
        else:
            body = damaged(members[number], random)
            # A whole member within it, that is cut, does not end within the next one.
            members[number] = body + bytes(1000) * (members[number][:3] in body[1:])
    data = wrapped(b"".join(members), random)
    whole = {b"picture %d" % number for number in set(range(5)) - broken}
    assert whole <= pictures(data), (sorted(broken), data)
    size = random.choice([40, 100, 1000])
    with patch.multiple("alignset.transforms.pages.archives", READ=size, CHUNK=size // 10):
        assert whole <= pictures(data), (sorted(broken), size, data)
    pictures(damaged(data, random))  # in the zip's or the outer gzip's own bytes too
    pictures(record(URL, damaged(response(b"<html>", "Content-Encoding: br"), random)))


HTML_TOKENS = (
    b"<|>|/|!|-|--|=|'|\"| |\n|a|\x00|\xff|<!--|-->|--!>|<!-->|<!|<?|</|<![CDATA[|]]>|&#65|"
    b"&lt;|<img |<img src=a alt=b>|<IMG\nalt='c'|<img alt=d srcset='e 2x, f'>|</img>|<picture>|"
    b"</picture>|<picture><source srcset=g>|<source/>|<img alt=h>|<base href=/i/>|"
    b"<link rel=canonical href=http://j.example/k>|<link>|<p>|<script>|<script|</script>|"
    b"</script|<style>|</style>|<title>|</title>|<textarea>|</TEXTAREA\t|<noembed>|<iframe>|"
    b"</iframe/|<svg>|</svg>|<svg/>|<math>|<plaintext>|<abcdefghijk|<xmp>|</p>|<g>|</g>|<b>|"
    b"</b>|<foreignObject>|</foreignObject>|<desc>|</desc>|<mi>|</mi>|<mglyph>|"
    b"<image src=p alt=q>|<font>|</math>|<font color=r>|<annotation-xml>|"
    b"<annotation-xml encoding=text/html>|<div>|</div>|<meta name=robots content=noai>|"
    b"<a rel=license href=s>|</a>|srcset=| alt=l| src=m.png| data-src=n|1x,|(o|,|"
    b"a text of words"
).split(b"|")


def soup(random: Random) -> bytes:
    """Random tokens, most of them of a few kinds, so that they meet."""
    few = random.choices(HTML_TOKENS, k=random.randint(1, 8))
    parts = [random.choice(few if random.random() < 0.8 else HTML_TOKENS) for _ in range(40)]
    page = bytearray(b"".join(parts[: random.randint(0, 40)]))
    for _ in range(random.choice([0, 0, 0, 1, 3])):
        if page:
            page[random.randrange(len(page))] = random.randrange(256)
    return bytes(page)


def check_soup(random: Random) -> None:
    """Nothing unforeseen, the same in any chunks, and no image that libxml2's tree has not."""
    body, charset = (
        soup(random),
        random.choice(["", "utf-16le", "shift_jis", "iso-2022-jp", "utf-8"]),
    )
    html_page = Page(random.choice(["http://a.example/b/", "", "no URL"]), body, charset)
    found = list(images_of(html_page))
    assert not any(isinstance(image, Broken) for image in found), (html_page, found)
    with patch("alignset.transforms.pages.html_elements.CHUNK", random.randint(1, 9)):
        assert list(images_of(html_page)) == found, html_page
    texts = {image.text for image in found}
    if charset == "utf-8":
        parser = etree.HTMLParser(encoding="utf-8", huge_tree=True)
        tree = etree.fromstring(body.decode("utf-8", "replace").encode() or b"<p>", parser)
        in_tree = [] if tree is None else tree.iter("img", "image")
        assert texts <= {image.get("alt") for image in in_tree}, html_page


def member(block: bytes, target: str = "x") -> bytes:
    """A record with this JSON."""
    return record(target, block, kind="metadata", content="application/json")


WAT_TOKENS = (
    b'{"path":"IMG@/src","url":"a","alt":"b"},|{"path":"IMG@/src","url":"&","alt":"b"},|'
    b'{"path":"A@/href","url":"c"},|"|{|}|{"|"path":"IMG@/src"|IMG@/src"|MG@/src"|Base"|":"|",|'
    b'","|\\|\\/|<\\/|\\u0041|\\u00e9|a|..|/|../|&|\xff| |\n|"Status":"2|"HTML-Metadata":{|'
    b'"WARC-Header-Metadata":{|"WARC-Type":"response",|"url":"http://d.example/|"alt":"|'
    b'"WARC-Target-URI":"http://a/",|\r\n|a:b\r\n|WARC/1.0\r\n|Content-Length: 9\r\n|'
    b'WARC-Type: metadata\r\n|"alt":"b","url":"c"'
).split(b"|")
BEFORE = (
    b'{"Envelope":{"WARC-Header-Metadata":{"WARC-Type":"response","WARC-Target-URI":"http://a/b/"},'
    b'"Response-Message":{"Status":"200"},"HTML-Metadata":{"Links":['
)
PLACES = {
    "member": (b"", b""),
    "header": (BEFORE[:37], b'}},"Status":"200","HTML-Metadata":{}}'),
    "status": (BEFORE[:95], b',"Status":"200","HTML-Metadata":{}}'),
    "links": (BEFORE, b"]}}}"),
}
