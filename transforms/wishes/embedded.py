"""Where files of images keep XMP and C2PA. Nothing is decoded; what claims to be longer than the
file ends with it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from alignset.transforms.columns.kernels import kernel
from alignset.transforms.images.file_look import FileLook
from alignset.transforms.wishes.c2pa import boxes
from alignset.transforms.wishes.xmp import MOST_BYTES

_XMP, _LONGER_XMP = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
_BEFORE_LONGER = len(_LONGER_XMP) + 32 + 8  # its digest, the length of all, the place of this part
_APP1, _APP11 = 0xE1, 0xEB
_PNG_XMP = b"XML:com.adobe.xmp\0"
_PNG_RAW_XMP = b"Raw profile type xmp\0"  # of ImageMagick, for long
_MOST_CHUNKS = 20_000
_MOST_EXTENSIONS = 100  # of a GIF, of applications
_MOST_BLOCKS = 200_000  # of a GIF, of 255 bytes each where nobody is hostile
_AVIF_C2PA = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_XMP_TYPE = b"rdf+xml"
_PACKETS = (b"<x:xmpmeta", b"<?xpacket begin", b"<rdf:RDF")


class Embedded(NamedTuple):
    """The XMP packet and the C2PA manifest store of a file; empty where it has none."""

    xmp: bytes = b""
    c2pa: bytes = b""


def embedded(look: FileLook) -> Embedded:
    """What a file has of them, in a format that its signature tells."""
    body = look.body
    match look.format:
        case "jpeg":
            return _of_jpeg(look)
        case "png":
            return _of_png(body)
        case "webp":
            chunks = dict(_riff_chunks(body))
            return Embedded(chunks.get(b"XMP ", b""), chunks.get(b"C2PA", b""))
        case "gif":
            return _of_gif(body)
        case "avif":
            return Embedded(_avif_xmp(body), _avif_c2pa(body))
    return Embedded()


def _of_jpeg(look: FileLook) -> Embedded:
    body, xmp, parts = look.body, b"", list[bytes]()
    for marker, begin, end in look.segments.each:
        if marker == _APP1:
            if len(xmp) >= MOST_BYTES:
                continue
            if body.startswith(_XMP, begin):
                xmp += body[begin + len(_XMP) : end]
            elif body.startswith(_LONGER_XMP, begin):
                xmp += body[begin + _BEFORE_LONGER : end]
        elif marker == _APP11 and body[begin : begin + 2] == b"JP":
            # A number of the box and one of the part, before which the box's head stands again.
            at, head = begin + 8, 16 if body[begin + 8 : begin + 12] == b"\0\0\0\1" else 8
            parts.append(body[at if body[begin + 4 : at] == b"\0\0\0\1" else at + head : end])
    return Embedded(xmp, b"".join(parts))


def _of_png(body: bytes) -> Embedded:
    text = raw = c2pa = b""
    at = 8
    for _ in range(_MOST_CHUNKS):
        size, kind = int.from_bytes(body[at : at + 4], "big"), body[at + 4 : at + 8]
        if kind == b"iTXt" and body.startswith(_PNG_XMP, at + 8):
            text = body[at + 8 + len(_PNG_XMP) : at + 8 + size]
        elif kind in (b"tEXt", b"zTXt") and body.startswith(_PNG_RAW_XMP, at + 8):
            raw = kind + body[at + 8 + len(_PNG_RAW_XMP) : at + 8 + size]
        elif kind == b"caBX":
            c2pa = body[at + 8 : at + 8 + size]
        at += size + 12
        if at >= len(body):
            break
    # Of one: each may be 1 KB of a MiB.
    return Embedded(_international_text(text) if text else _raw_profile(raw), c2pa)


def _international_text(data: bytes) -> bytes:
    """The text of an iTXt chunk, of which the keyword is gone."""
    compressed, rest = data[:1] == b"\1", data[2:]
    for _ in range(2):  # the language, and the keyword in it
        rest = rest.partition(b"\0")[2]
    return _inflated(rest, MOST_BYTES) if compressed else rest


def _raw_profile(data: bytes) -> bytes:
    """What a text chunk holds, of which the keyword is gone: a name, a length, and hex digits."""
    kind, rest = data[:4], data[4:]
    most = 3 * MOST_BYTES  # two digits a byte, and lines
    words = (_inflated(rest[1:], most) if kind == b"zTXt" else rest[:most]).split()
    digits = b"".join(words[2:]).decode("ascii", "replace")
    try:
        return bytes.fromhex(digits[: len(digits) // 2 * 2])
    except ValueError:
        return b""


def _inflated(data: bytes, most: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, most)
    except zlib.error:
        return b""


def _riff_chunks(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    for _ in range(_MOST_CHUNKS):
        kind, size = body[at : at + 4], int.from_bytes(body[at + 4 : at + 8], "little")
        if kind in (b"XMP ", b"C2PA"):
            yield kind, body[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
        if at >= len(body):
            return


def _of_gif(body: bytes) -> Embedded:
    places = np.empty(_MOST_EXTENSIONS, np.int64)
    count = _application_extensions(np.frombuffer(body, np.uint8), places)
    xmp = c2pa = b""
    for at in places[:count].tolist():
        if not xmp and body.startswith(b"XMP DataXMP", at + 3):
            xmp = body[at + 3 : at + 3 + MOST_BYTES]
        if not c2pa and body.startswith(b"C2PA_GIF", at + 3):
            c2pa = _joined_blocks(body, at + 14)
    return Embedded(xmp, c2pa)


def _joined_blocks(body: bytes, at: int) -> bytes:
    """What the blocks of an extension of a GIF hold."""
    joined = bytearray()
    for _ in range(_MOST_BLOCKS):
        if at >= len(body) or not (size := body[at]):
            break
        joined += body[at + 1 : at + 1 + size]
        at += 1 + size
    return bytes(joined)


@kernel
def _application_extensions(data, places):  # type: ignore[no-untyped-def]
    """Puts where the first of them begin into `places`; returns how many these are."""
    size, count = data.shape[0], 0
    at = 13 + (_palette_bytes(data[10]) if size > 12 else 0)
    while at < size and data[at] != 0x3B and count < places.shape[0]:
        if data[at] == 0x21:
            if at + 2 < size and data[at + 1] == 0xFF and data[at + 2] == 11:
                places[count] = at
                count += 1
            at += 2
        elif data[at] == 0x2C and at + 10 <= size:
            at += 11 + _palette_bytes(data[at + 9])
        else:  # junk, which decoders skip
            at += 1
            continue
        while at < size and data[at]:
            at += 1 + data[at]
        at += 1
    return count


@kernel
def _palette_bytes(flags):  # type: ignore[no-untyped-def]
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _avif_xmp(body: bytes) -> bytes:
    """Of a file that has an item of this type the first packet that is anywhere in it; of any other
    only one that is beside the media data, which are nearly all of it."""
    parts = [body[begin:end] for kind, begin, end in _avif_boxes(body) if kind != b"mdat"]
    if not any(_XMP_TYPE in part for part in parts):
        body = b"".join(parts)
    begins = [at for at in map(body.find, _PACKETS) if at >= 0]
    at = min(begins, default=len(body))
    return body[at : at + MOST_BYTES]


def _avif_boxes(body: bytes) -> Iterator[tuple[bytes, int, int]]:
    return islice(boxes(body, 0, len(body)), _MOST_CHUNKS)


def _avif_c2pa(body: bytes) -> bytes:
    """The superbox in the `uuid` box of C2PA, behind what it is for."""
    for kind, begin, end in _avif_boxes(body):
        if kind == b"uuid" and body.startswith(_AVIF_C2PA, begin):
            at = body.find(b"jumb", begin, end)
            return body[at - 4 : end] if at >= 0 else b""
    return b""
