"""Archives in which some records are damaged: whatever they are, reading ends in pairs and faults,
and the pairs of all other records are there, however much is read at once."""

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

from alignset.transforms.pages.archives import ArchiveRecord, read_records
from alignset.transforms.pages.http_pages import Page, page_of
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


def check(random: Random) -> None:
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
