"""Image files of every kind with chunks lost, doubled, changed or cut, looked at and encoded.

Whatever they are, they have a reason, or a shard can keep them in a form that Pillow opens.
"""

from __future__ import annotations

import functools
import io
import struct
import zlib
from collections import Counter
from random import Random

import pytest
from PIL import Image as PillowImage

from alignset.transforms.images import file_look
from alignset.transforms.images.examine import Image, Unusable, examine
from alignset.transforms.images.resize import Encoder
from alignset.transforms.images.resize_settings import EncodingError, ResizeSettings
from tests.support.picture_files import encoded, good_files, photograph

MOST_PIXELS = 10**7  # 0.1 s
SEEN: Counter[str] = Counter()  # what became of the files


@functools.cache
def encoders() -> tuple[Encoder, ...]:
    kept = {"resize_mode": "border", "image_size": 64}
    return Encoder(ResizeSettings()), Encoder(ResizeSettings(**kept))


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def riff_chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def box(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data) + 8) + kind + data


def exif(size: int, entries: int) -> bytes:
    """A directory whose values are all the same bytes, of so many."""
    head = b"MM\0*\0\0\0\x08" + struct.pack(">H", entries)
    values = b"".join(struct.pack(">HHLL", tag, 7, size, 0) for tag in range(entries))
    return (head + values + bytes(4)).ljust(size, b"\0")


TURNED = b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
PNG_CHUNKS = (
    *(png_chunk(kind, b"") for kind in (b"IDAT", b"tRNS", b"PLTE", b"abCd", b"IEND", b"acTL")),
    *(png_chunk(b"eXIf", data) for data in (TURNED, exif(2000, 150), b"")),
    png_chunk(b"tEXt", b"k\0v"),
    png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n2\n" + bytes(99))),
    png_chunk(b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0tiff:Orientation="6'),
    png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(99_000))),
    png_chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 150, 110, 0, 0, 1, 1, 0, 0)),
)
GIF_BLOCKS = (
    *(
        b"!\xfe\x01a\0",
        b"!\xfe\x01a\x01b\0",
        b"!\xf9\4\0\0\0\0\0",
        b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0",
    ),
    *(b"\x01a", b"\xff" + bytes(255), b"\0", b"!", b",", b"!\xfe", b";"),
)
WEBP_CHUNKS = tuple(
    riff_chunk(kind, data)
    for kind in (b"EXIF", b"XMP ", b"ICCP", b"ALPH", b"ANMF", b"VP8X", b"abcd")
    for data in (b"", TURNED, bytes(16))
)
BOXES = tuple(box(kind, data) for kind in (b"free", b"mdat", b"meta") for data in (b"", bytes(9)))
TOKENS = {"png": PNG_CHUNKS, "gif": GIF_BLOCKS, "webp": WEBP_CHUNKS, "avif": BOXES}


def hostile_picture(random: Random) -> tuple[str, bytes]:
    name = random.choice(sorted(good_files()))
    body = bytearray(good_files()[name])
    tokens = TOKENS.get(name.split()[0], (b"\0", b"\xff"))
    for _ in range(random.choice((0, 1, 1, 2, 4))):
        at = random.randrange(min(len(body), random.choice((60, len(body)))))
        way = random.randrange(6)
        if way == 0:
            body[at] = random.choice((0, 1, 127, 255, random.randrange(256)))
        elif way == 1:
            del body[at : at + random.choice((1, 4, 50))]
        elif way == 2:
            places = [33, 8, 12, len(body) - 12, 13 + 3 * 256, at]
            place = min(random.choice(places), len(body))
            body[place:place] = random.choice(tokens) * random.choice((1, 1, 3, 200))
        elif way == 3:
            body[at:at] = body[at : at + random.choice((4, 12, 100))]
        elif way == 4:
            del body[at:]
        else:
            number = struct.pack(
                random.choice((">I", "<I")), random.choice((0, 1, 2**31, 2**32 - 1))
            )
            body[at : at + 4] = number
        body = body or bytearray(1)
    if name.startswith("png") and random.random() < 0.7:
        return name, with_right_sums(bytes(body))
    return name, bytes(body)


def with_right_sums(png: bytes) -> bytes:
    """The same with the checksum of each chunk put right, or every change would end there."""
    at, body = 8, bytearray(png)
    while at + 12 <= len(body):
        end = at + 8 + int.from_bytes(body[at : at + 4], "big")
        if end + 4 > len(body):
            break
        body[end : end + 4] = struct.pack(">I", zlib.crc32(body[at + 4 : end]))
        at = end + 4
    return bytes(body)


def check(random: Random) -> None:
    files = [hostile_picture(random) for _ in range(3)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(file_look, "MAX_PIXELS", MOST_PIXELS)
        said = [examine(body) for _, body in files]
    assert not any(isinstance(s, Unusable) and s.detail == "unexpected" for s in said), said
    for (name, body), image in zip(files, said, strict=True):
        SEEN[f"{name.split()[0]} {type(image).__name__}"] += 1
        if isinstance(image, Unusable):
            continue
        for encoder in encoders():
            try:
                stored, extension, width, height = encoder(body, image)
            except EncodingError:
                continue
            kept = PillowImage.open(io.BytesIO(stored))
            kept.load()
            assert kept.size == (width, height), (kept.size, width, height)
            assert extension == "jpg"


def _grown(kind: str, begin: int) -> tuple[object, tuple[bytes, ...]]:
    body = encoded(photograph(), kind.upper())

    def look(middle: bytes) -> object:
        return examine(body[:begin] + middle + body[begin:])

    return look, TOKENS[kind]


def _look_at_webp(chunks: bytes) -> Image | Unusable:
    body = good_files()["webp"]
    extended = riff_chunk(b"VP8X", bytes((0x2C, 0, 0, 0, 149, 0, 0, 109, 0, 0)))
    whole = b"WEBP" + extended + chunks + body[12:]
    return examine(b"RIFF" + struct.pack("<I", len(whole)) + whole)


def _look_at_exif(data: bytes) -> Image | Unusable:
    body = good_files()["png"]
    return examine(body[:33] + png_chunk(b"eXIf", data) + body[33:])


# In what time grows with a file's size; a bitmap has nothing that repeats.
GROWTH = {
    "png chunks": _grown("png", 33),
    "gif blocks": _grown("gif", 13 + 3 * 256),
    "avif boxes": _grown("avif", 32),
    "webp chunks": (_look_at_webp, WEBP_CHUNKS),
    "exif": (_look_at_exif, (exif(600, 40), TURNED, struct.pack(">HHLL", 7, 7, 9999, 0))),
}
