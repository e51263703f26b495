"""Where files of images keep XMP and C2PA. Nothing is decoded; what claims to be longer than the
file ends with it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import NamedTuple

from transforms.images.file_formats import signature_format
from transforms.images.jpeg_segments import jpeg_segments
from transforms.wishes.c2pa import boxes
from transforms.wishes.xmp import MOST_BYTES

_XMP, _LONGER_XMP = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
_BEFORE_LONGER = len(_LONGER_XMP) + 32 + 8  # its digest, the length of all, the place of this part
_APP1, _APP11 = 0xE1, 0xEB
_PNG_XMP = b"XML:com.adobe.xmp\0"
_MOST_CHUNKS = 20_000
_MOST_BLOCKS = 200_000  # of a GIF, of 255 bytes each where nobody is hostile
_AVIF_C2PA = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_PACKETS = (b"<x:xmpmeta", b"<?xpacket begin", b"<rdf:RDF")


class Embedded(NamedTuple):
    """The XMP packet and the C2PA manifest store of a file; empty where it has none."""

    xmp: bytes = b""
    c2pa: bytes = b""


def embedded(body: bytes) -> Embedded:
    """What a file has of them, in a format that its signature tells."""
    match signature_format(body):
        case "jpeg":
            return _of_jpeg(body)
        case "png":
            return _of_png(body)
        case "webp":
            chunks = dict(_riff_chunks(body))
            return Embedded(chunks.get(b"XMP ", b""), chunks.get(b"C2PA", b""))
        case "gif":
            return Embedded(_packet(body, body.find(b"XMP DataXMP")), _gif_c2pa(body))
        case "avif":
            begins = [at for at in map(body.find, _PACKETS) if at >= 0]
            return Embedded(_packet(body, min(begins, default=-1)), _avif_c2pa(body))
    return Embedded()


def _of_jpeg(body: bytes) -> Embedded:
    xmp, parts = b"", list[bytes]()
    for marker, begin, end in jpeg_segments(body).each:
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
    text = c2pa = b""
    at = 8
    for _ in range(_MOST_CHUNKS):
        size, kind = int.from_bytes(body[at : at + 4], "big"), body[at + 4 : at + 8]
        if kind == b"iTXt" and body.startswith(_PNG_XMP, at + 8):
            text = body[at + 8 + len(_PNG_XMP) : at + 8 + size]
        elif kind == b"caBX":
            c2pa = body[at + 8 : at + 8 + size]
        at += size + 12
        if at >= len(body):
            break
    return Embedded(_international_text(text), c2pa)  # of one: each may be 1 KB of a MiB


def _international_text(data: bytes) -> bytes:
    """The text of an iTXt chunk, of which the keyword is gone."""
    compressed, rest = data[:1] == b"\1", data[2:]
    for _ in range(2):  # the language, and the keyword in it
        rest = rest.partition(b"\0")[2]
    if not compressed:
        return rest
    try:
        return zlib.decompressobj().decompress(rest, MOST_BYTES)
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


def _packet(body: bytes, begin: int) -> bytes:
    return body[begin : begin + MOST_BYTES] if begin >= 0 else b""


def _gif_c2pa(body: bytes) -> bytes:
    """The blocks behind C2PA's application extension, joined."""
    at = body.find(b"\x21\xff\x0bC2PA_GIF")
    if at < 0:
        return b""
    joined, at = bytearray(), at + 14
    for _ in range(_MOST_BLOCKS):
        if at >= len(body) or not (size := body[at]):
            break
        joined += body[at + 1 : at + 1 + size]
        at += 1 + size
    return bytes(joined)


def _avif_c2pa(body: bytes) -> bytes:
    """The superbox in the `uuid` box of C2PA, behind what it is for."""
    for number, (kind, begin, end) in enumerate(boxes(body, 0, len(body))):
        if kind == b"uuid" and body.startswith(_AVIF_C2PA, begin):
            at = body.find(b"jumb", begin, end)
            return body[at - 4 : end] if at >= 0 else b""
        if number == _MOST_CHUNKS:
            break
    return b""
