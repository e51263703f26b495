"""What a hostile host answers: kinds of answers, each made anew from a number, and what may come of
a URL that gets one.

In what an answer sends, {host} and {seed} become those of its URL.
"""

import gzip
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from random import Random
from typing import NamedTuple

from tests.fuzz import jpeg, mutations, pictures
from tests.support.jpeg_frames import family
from tests.support.picture_files import good_files, oversized

Part = bytes | float | str  # to send; to wait, in seconds; "reset" or "keep" the connection
MAX_BYTES = 300_000  # --max_image_bytes of the run
KEPT = "kept"
ANY_STATUS = frozenset({"http_2xx", "http_3xx", "http_4xx", "http_5xx", "http_other"})
BAD_PICTURE = frozenset(
    {
        *("truncated", "broken", "lossless", "unsupported_frame"),
        *("too_many_pixels", "too_many_scans"),
    }
)
NO_PICTURE = frozenset({"empty", "html", "svg", "xml", "json", "pdf", "other_format", "unknown"})
LOST = frozenset({"reset", "cut_off", "bad_answer", "timeout"})


class Kind(NamedTuple):
    """How to answer, and the outcomes that are right: `kept`, or the detail or reason."""

    answer: Callable[[Random], Iterator[Part]]
    right: frozenset[str]


KINDS: dict[str, Kind] = {}


def kind(*right: str | frozenset[str]) -> Callable:
    every = frozenset().union(*({r} if isinstance(r, str) else r for r in right))

    def add(answer: Callable[[Random], Iterator[Part]]) -> Callable:
        KINDS[answer.__name__] = Kind(answer, every)
        return answer

    return add


def head(*headers: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode("latin-1")


def whole(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    return head(f"Content-Length: {len(body)}", *headers, status=status) + body


def picture(random: Random) -> bytes:
    return random.choice(list(good_files().values()))


@cache
def zeros(size: int, times: int) -> bytes:
    """So many zero bytes, compressed so many times."""
    body = bytes(size)
    for _ in range(times):
        body = gzip.compress(body)
    return body


def chunked(body: bytes, random: Random) -> bytes:
    made = b""
    while body:
        size = random.randint(1, 5000)
        made += b"%x\r\n%b\r\n" % (len(body[:size]), body[:size])
        body = body[size:]
    return made + b"0\r\n\r\n"


@kind(KEPT)
def honest(random: Random) -> Iterator[Part]:
    body = picture(random)
    lies = ["image/jpeg", "text/html", "application/x-sh", "", "image/svg+xml", "a" * 999]
    lie = random.choice(lies)
    way = random.randrange(6)
    if way == 0:
        yield head("Transfer-Encoding: chunked", f"Content-Type: {lie}") + chunked(body, random)
    elif way == 1:
        yield whole(gzip.compress(body), "Content-Encoding: gzip")
    elif way == 2:
        yield head(f"Content-Type: {lie}") + body  # it ends where the connection does
        return
    elif way == 3:
        yield head(status="103 Early Hints") * random.randint(1, 9) + whole(body)
    elif way == 4:
        made = whole(body, f"X-Long: {'x' * random.randint(0, 9000)}")
        for at in range(0, len(made), 1 + len(made) // 5):
            yield made[at : at + 1 + len(made) // 5]
            yield 0.02
    else:
        yield whole(
            body, f"Content-Type: {lie}", "Set-Cookie: id=1", "X-Robots-Tag: otherbot: noai"
        )
    yield "keep"


@kind("too_large", "bad_encoding", "empty", "unknown")
def gzip_bomb(random: Random) -> Iterator[Part]:
    body = zeros(random.choice([MAX_BYTES + 1, 10**7, 10**8]), random.randint(1, 3))
    nested = random.choice(["gzip", "gzip, gzip", "gzip, gzip, gzip", "deflate"])
    yield whole(body, f"Content-Encoding: {nested}")


@kind("too_large", "timeout", "bad_encoding", "reset")
def gzip_without_output(random: Random) -> Iterator[Part]:
    """A gzip header whose name never ends, or blocks that hold nothing."""
    yield head("Content-Encoding: gzip")
    yield b"\x1f\x8b\x08\x08" + bytes(6) if random.random() < 0.5 else gzip.compress(b"")[:10]
    while True:
        yield b"\0\0\0\xff\xff" * 4000 if random.random() < 0.5 else b"a" * 20_000


@kind("bad_encoding", "empty", "unknown", "truncated", KEPT)
def bad_encoding(random: Random) -> Iterator[Part]:
    names = ["gzip", "deflate", "br", "x-unknown", "zstd", "compress", ",,", "gzip, br"]
    name = random.choice(names)
    body = random.choice([b"", b"nothing of that kind", gzip.compress(picture(random))[:-9]])
    yield whole(body, f"Content-Encoding: {name}")


@kind("too_many_pixels", BAD_PICTURE)
def pixel_bomb(random: Random) -> Iterator[Part]:
    yield whole(random.choice(list(oversized().values())))


@kind("too_many_pixels")
def png_bomb(random: Random) -> Iterator[Part]:
    side = random.choice([9500, 15_000, 60_000])
    rows = zlib.compress(bytes(1 << 20), 9) * 5
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)), (b"IDAT", rows)]
    chunks.append((b"IEND", b""))
    yield whole(b"\x89PNG\r\n\x1a\n" + b"".join(pictures.png_chunk(*chunk) for chunk in chunks))


@kind("too_many_scans")
def scan_bomb(random: Random) -> Iterator[Part]:
    """A progressive JPEG that refines the same coefficient over and over."""
    body = good_files()["jpeg progressive"]
    scans = body[:-2].split(b"\xff\xda")
    again = b"\xff\xda" + min(scans[2:], key=len)
    fits = (MAX_BYTES - len(body)) // len(again)
    yield whole(body[:-2] + again * random.randint(fits // 2, fits) + b"\xff\xd9")


@kind(KEPT, BAD_PICTURE, NO_PICTURE, "too_small", "too_elongated", "unwritable", "too_large")
def damaged(random: Random) -> Iterator[Part]:
    """An image whose parts are lost, doubled, swapped, or followed by decoys."""
    name, body = random.choice(sorted(good_files().items()))
    made = jpeg.hostile_jpeg(random), mutations.changed(random, name.split()[0], body)
    yield whole(random.choice(made))


@kind("broken")
def quantum_bomb(random: Random) -> Iterator[Part]:
    """A quantisation table of a precision that there is not, once the usual tables were met."""
    body = good_files()["jpeg"]
    at = body.index(b"\xff\xdb") + 4
    yield whole(body[:at] + random.choice((b"\x70", b"\xf0", b"\xf1")) + body[at + 1 :])


@kind("lossless")
def lossless_jpeg(random: Random) -> Iterator[Part]:
    """A JPEG whose scaled decode writes beyond its memory."""
    yield whole(random.choice([body for body in family().values() if len(body) < MAX_BYTES]))


@kind(KEPT)
def comment_bomb(random: Random) -> Iterator[Part]:
    """Comments that Pillow joins in quadratic time."""
    body = good_files()["gif"]
    header = 13 + 3 * 256
    comment = random.choice((b"!\xfe" + b"\x01a" * 100_000 + b"\0", b"!\xfe\x01a\0" * 50_000))
    yield whole(body[:header] + comment + body[header:])


@kind(KEPT)
def exif_bomb(random: Random) -> Iterator[Part]:
    """EXIF of which Pillow makes gigabytes."""
    body = good_files()["png"]
    size = random.choice((60_000, 250_000))
    yield whole(
        body[:33] + pictures.png_chunk(b"eXIf", pictures.exif(size, size // 13)) + body[33:]
    )


@kind("too_large", "timeout", "reset", "bad_answer")
def endless(random: Random) -> Iterator[Part]:
    begin, block = random.choice(
        [
            (head(), b"x" * 9000),
            (head("Transfer-Encoding: chunked"), b"2000\r\n" + bytes(8192) + b"\r\n"),
            (b"HTTP/1.1 200 OK\r\nA: ", b"y" * 9000),
            (b"HTTP/1.1 200 OK\r\n", b"Header: value\r\n" * 500),
            (b"", bytes(9000)),
        ]
    )
    yield begin
    while True:
        yield block


@kind("timeout")
def slow(random: Random) -> Iterator[Part]:
    """A byte now and then, or nothing more at all, at some stage."""
    made = whole(picture(random))
    begin = random.choice([0, 1, 9, 30, 2000])
    yield made[:begin]
    pause = random.choice([0.3, 1.0, 30.0])
    for at in range(begin, len(made)):
        yield pause
        yield made[at : at + 1]


@kind(LOST)
def reset(random: Random) -> Iterator[Part]:
    made = whole(picture(random))
    yield made[: random.choice([0, 1, 12, 20, 50, len(made) // 2, len(made) - 1])]
    yield "reset"


@kind(LOST, "too_large", "truncated", "broken", NO_PICTURE, KEPT)
def lying_length(random: Random) -> Iterator[Part]:
    body = picture(random)
    size = len(body)
    lies = [size + 1, *(10**6, 10**18, 2**64, 0, 1), size // 2, size - 1, *(-1, "abc", "", "5, 6")]
    headers = [f"Content-Length: {random.choice(lies)}"]
    headers += random.choice([[], [f"Content-Length: {len(body)}"], ["Transfer-Encoding: chunked"]])
    yield head(*headers) + body


@kind(LOST, "too_large", "truncated", "broken", "empty", NO_PICTURE)
def bad_chunks(random: Random) -> Iterator[Part]:
    sizes = ["zz", "-5", "ffffffffffffffff", "1" * 30, "", "5;" + "x" * 99_999, " 5", "5\n5"]
    size = random.choice(sizes)
    yield head("Transfer-Encoding: chunked") + f"{size}\r\n".encode() + picture(random)[:5000]
    yield b"\r\n" + random.choice([b"", b"0", b"0\r\n", b"0\r\nX: y\r\n\r\n", b"0\r\n\r\n"])


@kind(LOST, KEPT, ANY_STATUS, NO_PICTURE)
def odd_heads(random: Random) -> Iterator[Part]:
    body = picture(random)
    heads = [
        head(f"X-Long: {'x' * 100_000}"),
        head(*(f"X-{n}: {n}" for n in range(20_000))),
        head("No colon at all", ": no name", "Nul: a\0b", " folded", "\tfolded"),
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 2000000 OK\r\n\r\n",
        b"HTTP/1.1 000 No\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        bytes(200),
        b"220 mail.example ESMTP\r\n" * 20,
        head("Upgrade: h2c", status="101 Switching Protocols"),
        head(f"Set-Cookie: {'c' * 5000}", "Content-Disposition: attachment; filename=../../x"),
    ]
    yield random.choice(heads) + body


@kind("bad_answer", "timeout", "reset")
def storm_of_1xx(random: Random) -> Iterator[Part]:
    status = random.choice(["100 Continue", "102 Processing", "103 Early Hints"])
    while True:
        yield head("Link: </a>", status=status) * 100


@kind(BAD_PICTURE, NO_PICTURE)
def cut_picture(random: Random) -> Iterator[Part]:
    body = random.choice([b for name, b in good_files().items() if "bmp" not in name])
    yield whole(body[: random.randrange(len(body) - 8)])


@kind(BAD_PICTURE, NO_PICTURE, KEPT, "too_small", "too_elongated")
def damaged_picture(random: Random) -> Iterator[Part]:
    body = bytearray(picture(random))
    for _ in range(random.randint(1, 5)):
        body[random.randrange(len(body))] = random.randrange(256)
    hole = random.randrange(len(body))
    del body[hole : hole + random.choice([0, 1, 100, 1000])]
    yield whole(bytes(body))


@kind(NO_PICTURE, KEPT, BAD_PICTURE)
def polyglot(random: Random) -> Iterator[Part]:
    seconds = [b"<script>alert(1)</script>", b"PK\x03\x04", b"%PDF-1.7", b"#!/bin/sh\n"]
    second, body = random.choice([*seconds, b"GIF89a/*", b"\xff\xd8\xff"]), picture(random)
    joined = [second + body, body + second, body[:20] + second + body[20:], body + body]
    yield whole(random.choice(joined))


@kind(NO_PICTURE)
def no_picture(random: Random) -> Iterator[Part]:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 9))
    bodies = [
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        f"<?xml version='1.0'?><!DOCTYPE svg [<!ENTITY l0 'ha'>{laughs}]><svg>&l8;</svg>".encode(),
        b"<!doctype html><img src=/secret>",
        b'{"image": null}',
        b"%PDF-1.4",
        b"II*\0" + bytes(99),
        b"\0\0\1\0" + bytes(99),
        b"push graphic-context\nviewbox 0 0 640 480\nfill 'url(https://10.0.0.1/a|ls)'",
        b"%!PS-Adobe-3.0 EPSF-3.0\n(/etc/passwd) run",
        b"RIFF" + bytes(40),
        random.randbytes(500).lstrip(b"\xff\x89GRB"),
    ]
    yield whole(random.choice(bodies), f"Content-Type: image/{random.choice(['jpeg', 'png'])}")


@kind(ANY_STATUS, frozenset(f"http_{n}" for n in (401, 403, 404, 429, 451, 500, 502, 503)))
def statuses(random: Random) -> Iterator[Part]:
    several = (201, 204, 206, 304, 305, 401, 403, 404, 418, 429, 451, 500, 502, 503, 599)
    status = random.choice(several)
    after = random.choice(["0", "1", "99999999", "-1", "soon", "Fri, 31 Dec 2100 23:59:59 GMT"])
    body = picture(random) if status != 204 else b""
    yield whole(body, f"Retry-After: {after}", status=f"{status} X")


@kind("x_robots_tag")
def not_for_this_use(random: Random) -> Iterator[Part]:
    tags = ["noai", "NoImageAI", "all, noindex", "alignset: noai", "a: b, alignset: noindex"]
    yield whole(picture(random), f"X-Robots-Tag: {random.choice(tags)}")


PRIVATE = (
    *("127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "100.100.100.200"),
    "168.63.129.16",
    *("[::1]", "[::ffff:10.0.0.1]", "[fd00:ec2::254]", "[64:ff9b::a00:1]", "[2002:a00:1::1]"),
    *("0x0a000001", "167772161", "012.0.0.1", "10.1", "0", "localhost", "private-1.hostile.test"),
    *("mapped-1.hostile.test", "１０.0.0.1", "user:pass@10.0.0.1", "10.0.0.1."),
)


@kind("forbidden_address", "bad_redirect", "unreachable", "dns")
def redirect_inside(random: Random) -> Iterator[Part]:
    target = f"http://{random.choice(PRIVATE)}/secret"
    yield whole(b"", f"Location: {target}".encode().decode("latin-1"), status="302 Found")


@kind("bad_redirect", "too_many_redirects", "http_3xx", "bad_answer", "http_404")
def redirect_astray(random: Random) -> Iterator[Part]:
    places = [
        *("file:///etc/passwd", "gopher://10.0.0.1/", "ftp://10.0.0.1/", "javascript:1"),
        *("data:image/gif;base64,R0", "dict://10.0.0.1:80/", "ws://a/", "http://", "//", ""),
        *("http:///x", "http://a b/", "http://[::1", "x" * 9000),
        *[f"/redirect_astray/{random.randrange(10**9)}"] * 4,
    ]
    status = random.choice([301, 302, 303, 307, 308])
    yield whole(b"", f"Location: {random.choice(places)}", status=f"{status} Moved")


@kind("forbidden_address", "dns", "timeout", "http_404", "unreachable")
def rebinding(random: Random) -> Iterator[Part]:
    """Its name led here; the next resolution leads inside."""
    yield whole(b"", "Location: http://{host}:8081/secret", status="302 Found")


@kind(KEPT)
def redirect_home(random: Random) -> Iterator[Part]:
    places = ["/honest/{seed}", "//{host}/honest/{seed}", "http://{host}/honest/{seed}#top"]
    status = random.choice([301, 302, 307, 308])
    yield whole(b"", f"Location: {random.choice(places)}", status=f"{status} Moved")
    yield "keep"
