"""Opt-outs and licences in the bytes of an image, as XMP and C2PA state them.

Nothing is decoded; what claims to be longer than the file ends with it.

Source: IPTC Photo Metadata Standard 2023.1 (PLUS Data Mining, web statement of rights); XMP
specification, part 2 (rights management).
"""

from __future__ import annotations

import html
import re
import zlib
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from alignset.transforms.columns.pair_columns import C2PA, XMP_DATA_MINING
from alignset.transforms.images.file_formats import FileLook, png_chunks
from alignset.transforms.opt_outs.c2pa import boxes, forbids_training
from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings
from alignset.transforms.workers.unexpected import tell_once

MOST_BYTES = 1 << 20  # of XMP that are looked at; that of photographs has some thousand
_LONGEST = 2_000  # characters of a licence hint
_MOST_PLACES = 50  # at which its name is looked at
# Nothing is looked at twice: what is met ends where the name stands again.
_DATA_MINING = re.compile(
    rb"""DataMining\s*+=\s*+(?:"[^"<]*+|'[^'<]*+)"""  # an attribute
    # An element, with what it holds: a value may lie in others, rdf:value among them.
    rb"""|<[\w:.-]*?DataMining\b[^<>]*+"""
    rb"""(?:(?<!/)>(?:[^<]++|<(?![/\w:.-]*DataMining\b)){0,40}+)?+"""
)
_PROHIBITED = re.compile(rb"\bDMI-PROHIBITED(?![A-Za-z])")


class XmpTerms(NamedTuple):
    """Terms: whether mining or training is prohibited, and the statements of the licence."""

    prohibited: bool = False
    web_statement: str | None = None
    usage_terms: str | None = None


NO_TERMS = XmpTerms()


def xmp_terms(packet: bytes) -> XmpTerms:
    """The terms in an XMP packet of UTF-8, looked for without an XML parser, which hostile packets
    could keep busy: as attributes, as elements, or as the first text of a list of languages."""
    packet = packet[:MOST_BYTES]
    prohibited = b"DataMining" in packet and any(
        _PROHIBITED.search(match[0]) for match in _DATA_MINING.finditer(packet)
    )
    return XmpTerms(prohibited, _text(packet, b"WebStatement"), _text(packet, b"UsageTerms"))


def _text(packet: bytes, name: bytes) -> str | None:
    """The value of the first property of this name that has one."""
    at = packet.find(name)
    for _ in range(_MOST_PLACES):
        if at < 0:
            break
        behind = packet[at + len(name) : at + len(name) + 4 * _LONGEST]
        if packet[at - 1 : at] in (b":", b"<") and (match := _VALUE.match(behind)):
            value = next(filter(None, match.groups()), b"").decode("utf-8", "replace")
            value = " ".join(html.unescape(value).split())[:_LONGEST]
            if value:
                return value
        at = packet.find(name, at + len(name))
    return None


_VALUE = re.compile(
    rb"""\s*+=\s*+(?:"([^"<]*+)"|'([^'<]*+)')"""  # an attribute
    rb"""|[^<>]*?\bresource\s*+=\s*+["']([^"'<>]*+)["']"""
    rb"""|[^<>]*+>\s*+(?:<(?:\w+:)?(?:Alt|Bag|Seq)\b[^<>]*+>\s*+<(?:\w+:)?li\b[^<>]*+>)?+([^<]*+)"""
)


_XMP, _LONGER_XMP = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
_BEFORE_LONGER = len(_LONGER_XMP) + 32 + 8  # its digest, the length of all, the place of this part
_APP1, _APP11 = 0xE1, 0xEB
_PNG_XMP = b"XML:com.adobe.xmp\0"
_PNG_RAW_XMP = b"Raw profile type xmp\0"  # of ImageMagick, for long
_MOST_CHUNKS = 20_000
_MOST_BLOCKS = 200_000  # of a GIF, of 255 bytes each where nobody is hostile
_AVIF_C2PA = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_XMP_TYPE = b"rdf+xml"
_PACKETS = (b"<x:xmpmeta", b"<?xpacket begin", b"<rdf:RDF")


class FileOptOuts(NamedTuple):
    """Attributes:
    opt_outs: details of `opted_out`, in their order.
    web_statement, usage_terms: where and how the licence is stated, in XMP.
    """

    opt_outs: tuple[str, ...] = ()
    web_statement: str | None = None
    usage_terms: str | None = None


_NONE = FileOptOuts()


def file_opt_outs(look: FileLook, settings: OptOutSettings) -> FileOptOuts:
    """Opt-outs and licence of a file. Raises nothing, whatever it is; may be called by many
    threads."""
    try:
        parts = embedded(look)
        if not parts.xmp and not parts.c2pa:
            return _NONE
        terms = xmp_terms(parts.xmp) if parts.xmp else NO_TERMS
        opt_outs = []
        if terms.prohibited and settings.xmp_data_mining:
            opt_outs.append(XMP_DATA_MINING)
        if settings.c2pa and parts.c2pa and forbids_training(parts.c2pa):
            opt_outs.append(C2PA)
        return FileOptOuts(tuple(opt_outs), terms.web_statement, terms.usage_terms)
    except Exception as error:
        tell_once("looking for opt-outs in a file", error)
        return _NONE


class Embedded(NamedTuple):
    """The XMP packet and the C2PA manifest store of a file; empty where it has none."""

    xmp: bytes = b""
    c2pa: bytes = b""


def embedded(look: FileLook) -> Embedded:
    """Statements in a file, by the format of its signature."""
    body = look.body
    match look.format:
        case "jpeg":
            return _read_jpeg(look)
        case "png":
            return _read_png(body)
        case "webp":
            chunks = dict(_riff_chunks(body))
            return Embedded(chunks.get(b"XMP ", b""), chunks.get(b"C2PA", b""))
        case "gif":
            return _read_gif(look)
        case "avif":
            return _read_avif(body)
    return Embedded()


def _read_jpeg(look: FileLook) -> Embedded:
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


def _read_png(body: bytes) -> Embedded:
    text = raw = c2pa = b""
    for kind, begin, end in islice(png_chunks(body), _MOST_CHUNKS):
        if kind == b"iTXt" and body.startswith(_PNG_XMP, begin):
            text = body[begin + len(_PNG_XMP) : end]
        elif kind in (b"tEXt", b"zTXt") and body.startswith(_PNG_RAW_XMP, begin):
            raw = kind + body[begin + len(_PNG_RAW_XMP) : end]
        elif kind == b"caBX":
            c2pa = body[begin:end]
    # Only one is inflated: each may be 1 KB of a MiB.
    return Embedded(_international_text(text) if text else _raw_profile(raw), c2pa)


def _international_text(data: bytes) -> bytes:
    """The text of an iTXt chunk without its keyword."""
    compressed, rest = data[:1] == b"\1", data[2:]
    for _ in range(2):  # the language, and the keyword in it
        rest = rest.partition(b"\0")[2]
    return _inflated(rest, MOST_BYTES) if compressed else rest


def _raw_profile(data: bytes) -> bytes:
    """The content of a text chunk without its keyword: a name, a length, and hex digits."""
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


def _read_gif(look: FileLook) -> Embedded:
    body, xmp, c2pa = look.body, b"", b""
    for at in look.gif[1]:
        if not xmp and body.startswith(b"XMP DataXMP", at + 3):
            xmp = body[at + 3 : at + 3 + MOST_BYTES]
        if not c2pa and body.startswith(b"C2PA_GIF", at + 3):
            c2pa = _joined_blocks(body, at + 14)
    return Embedded(xmp, c2pa)


def _joined_blocks(body: bytes, at: int) -> bytes:
    """The content of the blocks of a GIF extension."""
    content = bytearray()
    for _ in range(_MOST_BLOCKS):
        if at >= len(body) or not (size := body[at]):
            break
        content += body[at + 1 : at + 1 + size]
        at += 1 + size
    return bytes(content)


def _read_avif(body: bytes) -> Embedded:
    """The XMP of a file that has an item of this type is the first packet that is anywhere in it;
    of any other only one that is beside the media data, which are nearly all of it. C2PA is the
    superbox in a `uuid` box, behind what it is for."""
    c2pa, parts = b"", list[bytes]()
    for kind, begin, end in islice(boxes(body, 0, len(body)), _MOST_CHUNKS):
        if kind != b"mdat":
            parts.append(body[begin:end])
        if kind == b"uuid" and not c2pa and body.startswith(_AVIF_C2PA, begin):
            at = body.find(b"jumb", begin, end)
            c2pa = body[at - 4 : end] if at >= 0 else b""
    if not any(_XMP_TYPE in part for part in parts):
        body = b"".join(parts)
    at = min((at for at in map(body.find, _PACKETS) if at >= 0), default=len(body))
    return Embedded(body[at : at + MOST_BYTES], c2pa)
