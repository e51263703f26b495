"""Files with a few changes: anywhere, and where their format has numbers and parts."""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from random import Random

from tests.fuzz import pages, pictures
from tests.fuzz.real_files import LARGE, large_file, real_files

EXTREMES = (0, 1, 127, 128, 255, *(2**n - of for n in (15, 16, 31, 32, 63, 64) for of in (0, 1)))
SIZES = (1, 1, 4, 12, 100, 512, 4096)
TOKENS: dict[str, Sequence[bytes]] = {
    **pictures.TOKENS,
    **{"warc": pages.JUNK, "html": pages.HTML_TOKENS, "wat": pages.WAT_TOKENS},
    "csv": (b'"', b",", b"\n", b"\r", b"\0", b'""', b"\xff", b"\xef\xbb\xbf", b"x" * 5000),
    "txt": (b":", b"\n", b"\r", b"url:", b"host:", b"prefix:", b"\xff", b"a" * 70_000),
    "jsonl": (b'"|{|}|[|null|1e999|\\ud800|\n|"url":7,|' + b"[" * 2000).split(b"|"),
}
# Where text formats have their parts; the numbers that they have are digits.
PARTS = {
    "warc": rb"(?<=Content-Length: )|WARC/1|\r\n\r\n|[<:]",
    "wat": rb'[{}"\[]|(?<=Content-Length: )',
    **{
        "html": rb"[<>=]",
        "csv": rb'[,"\n]',
        "txt": rb"[:\n]",
        "jsonl": rb'[{}",]',
        "gif": rb",|!\xf9|!\xff",
    },
}


def damaged(
    random: Random, body: bytes, places: Sequence[int] = (), tokens: Sequence[bytes] = (b"\0",)
) -> bytes:
    """The same bytes, but for a few.

    Args:
      places: where the format has numbers, or parts begin. tokens: what may come between.
    """
    file = bytearray(body)
    for _ in range(random.choice((0, 1, 1, 2, 5))):
        if not file:
            break
        at = random.randrange(min(len(file), random.choice((60, len(file)))))
        size = random.choice(SIZES)
        if places and random.random() < 0.6:  # a part, or so, with what is near its begin
            first, second = random.choice(places), random.choice(places)
            at = min(max(first, 0) + random.choice((0, 0, 0, 4, 8)), len(file) - 1)
            size = abs(second - first) if random.random() < 0.3 else size
        _change(random, file, at, size, tokens)
    return bytes(file)


def _change(random: Random, file: bytearray, at: int, size: int, tokens: Sequence[bytes]) -> None:
    other = random.randrange(len(file))
    way = random.randrange(9)
    if way == 0:
        file[at] ^= 1 << random.randrange(8)
    elif way == 1:
        file[at : at + size] = random.randbytes(size)
    elif way == 2:
        del file[at : at + size]
    elif way == 3:
        file[at:at] = file[at : at + size] * random.choice((1, 1, 2, 200))
    elif way == 4:
        file[at : at + size] = random.choice((b"\0", b"\xff")) * size
    elif way == 5:
        file[at:at] = random.choice(tokens) * random.choice((1, 1, 3, 200))
    elif way == 6:
        file[at : at + size], file[other : other + size] = (
            file[other : other + size],
            file[at : at + size],
        )
    elif way == 7 and random.random() < 0.3:
        del file[at:]
    else:
        number = random.choice((*EXTREMES, size, len(file), random.randrange(2**16)))
        if file[at : at + 1].isdigit():
            file[at : at + 1] = b"%d" % number
        else:
            code = random.choice(("B", ">H", "<H", ">I", "<I", ">I", "<I", ">Q", "<Q"))
            width = struct.calcsize(code)
            file[at : at + width] = struct.pack(code, number % (1 << 8 * width))


def changed(random: Random, kind: str, body: bytes) -> bytes:
    """The bytes of a file of a format with a few changes."""
    tokens = TOKENS.get(kind, (b"\0", b"\xff", b"\x80"))
    body = damaged(random, body, [*PLACES[kind](body)], tokens)
    return REPAIRS[kind](body) if kind in REPAIRS and random.random() < 0.7 else body


def mutated(random: Random, kind: str) -> tuple[str, bytes]:
    """A real file of a format with a few changes: its ending, and its bytes."""
    ending, body = random.choice(real_files()[kind])
    if kind in LARGE and random.random() < 0.05:
        ending, body = kind, large_file(kind, random.choice(("square", "strip")))
        if random.random() < 0.5:  # most changes end it at once
            return ending, body
    packed = ending.endswith(".gz") and random.random() < 0.7
    body = changed(random, kind, gzip.decompress(body) if packed else body)
    if random.random() < 0.05:  # another format begins within it, or behind
        at = random.choice((len(body), random.randrange(len(body) + 1)))
        body = body[:at] + random.choice(random.choice([*real_files().values()]))[1]
    return ending, gzip.compress(body, 1, mtime=0) if packed else body


def _png(body: bytes) -> Iterator[int]:
    at = 8
    while at + 12 <= len(body):
        yield from (at, at + 4, at + 8)
        at += 12 + int.from_bytes(body[at : at + 4], "big")


def _jpeg(body: bytes) -> Iterator[int]:
    at = 2
    while at + 4 <= len(body) and body[at] == 0xFF and body[at + 1] != 0xD9:
        yield from (at, at + 2, at + 4, at + 5)
        at += 2 + int.from_bytes(body[at + 2 : at + 4], "big")


def _webp(body: bytes) -> Iterator[int]:
    at = 12
    while at + 8 <= len(body):
        yield from (at, at + 4, at + 8, at + 12, at + 15)
        size = int.from_bytes(body[at + 4 : at + 8], "little")
        at += 8 + size + size % 2


def _avif(body: bytes, at: int = 0, end: int | None = None) -> Iterator[int]:
    """The beginnings of boxes, and of numbers in boxes that are not mdat."""
    end = len(body) if end is None else end
    while at + 8 <= end:
        size, kind = int.from_bytes(body[at : at + 4], "big"), body[at + 4 : at + 8]
        yield at
        if kind in (b"meta", b"iprp", b"ipco", b"iinf", b"iref"):
            skipped = {b"meta": 12, b"iinf": 14, b"iref": 12}.get(kind, 8)
            yield from _avif(body, at + skipped, min(at + size, end))
        elif kind != b"mdat":
            yield from range(at + 8, min(at + size, end), 2)
        at += max(size, 8)


def _tiff(body: bytes) -> Iterator[int]:
    order = "little" if body[:1] == b"I" else "big"
    at = int.from_bytes(body[4:8], order)
    yield from (4, at)
    for entry in range(int.from_bytes(body[at : at + 2], order)):
        begin = at + 2 + 12 * entry
        yield from (begin, begin + 2, begin + 4, begin + 8)


def _tar(body: bytes) -> Iterator[int]:
    for at in range(0, len(body), 512):
        if body[at + 257 : at + 262] == b"ustar":
            yield from (at, at + 124, at + 135, at + 156, at + 257, at + 345, at + 512)


def _parquet(body: bytes) -> Iterator[int]:
    """The footer and its length, and the heads of pages, which lie anywhere before it."""
    footer = len(body) - 8 - int.from_bytes(body[-8:-4], "little")
    yield from range(max(footer, 0), len(body) - 7, 3)
    yield from [len(body) - 8] * 20
    yield from (
        at
        for head in re.finditer(rb"\x15[\0\4\6]\x15", body)
        for at in range(head.start(), head.start() + 24)
    )


PLACES: dict[str, Callable[[bytes], Iterator[int]]] = {
    **{"png": _png, "jpeg": _jpeg, "webp": _webp, "avif": _avif, "tiff": _tiff, "tar": _tar},
    **{"parquet": _parquet, "bmp": lambda body: iter(range(2, 54, 4))},
    **{
        kind: lambda body, parts=re.compile(parts): (
            match.start() for match in parts.finditer(body)
        )
        for kind, parts in PARTS.items()
    },
}


def _with_png_sums(body: bytes) -> bytes:
    at, png = 8, bytearray(body)
    while at + 12 <= len(png):
        end = at + 8 + int.from_bytes(png[at : at + 4], "big")
        if end + 4 > len(png):
            break
        png[end : end + 4] = struct.pack(">I", zlib.crc32(png[at + 4 : end]))
        at = end + 4
    return bytes(png)


def _with_tar_sums(body: bytes) -> bytes:
    tar = bytearray(body)
    for at in range(0, len(tar) - 511, 512):
        if tar[at + 257 : at + 262] == b"ustar":
            tar[at + 148 : at + 156] = b" " * 8
            tar[at + 148 : at + 156] = b"%06o\0 " % sum(tar[at : at + 512])
    return bytes(tar)


def _with_riff_size(body: bytes) -> bytes:
    return body[:4] + struct.pack("<I", max(0, len(body) - 8)) + body[8:]


REPAIRS: dict[str, Callable[[bytes], bytes]] = {
    "png": _with_png_sums,
    "tar": _with_tar_sums,
    "webp": _with_riff_size,
}
