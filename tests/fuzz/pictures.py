"""Parts of image files, and how the time of a look at them grows."""

from __future__ import annotations

import struct
import zlib

from alignset.transforms.images.examine import Image, Unusable, examine
from tests.support.picture_files import encoded, good_files, photograph


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
    *(b"!\xfe\x01a\0", b"!\xfe\x01a\x01b\0", b"!\xf9\4\0\0\0\0\0"),
    b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0",
    *(b"\x01a", b"\xff" + bytes(255), b"\0", b"!", b",", b"!\xfe", b";"),
)
WEBP_CHUNKS = tuple(
    riff_chunk(kind, data)
    for kind in (b"EXIF", b"XMP ", b"ICCP", b"ALPH", b"ANMF", b"VP8X", b"abcd")
    for data in (b"", TURNED, bytes(16))
)
BOXES = tuple(box(kind, data) for kind in (b"free", b"mdat", b"meta") for data in (b"", bytes(9)))
TOKENS = {"png": PNG_CHUNKS, "gif": GIF_BLOCKS, "webp": WEBP_CHUNKS, "avif": BOXES}


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
