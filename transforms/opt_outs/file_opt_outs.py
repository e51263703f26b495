"""Opt-outs and licences in the bytes of an image, as XMP and C2PA state them.

Nothing is decoded; what claims to be longer than the file ends with it. A C2PA opt-out counts,
whoever has written it: no signature is checked.

Sources: IPTC Photo Metadata Standard 2023.1 (PLUS Data Mining, web statement of rights); XMP
specification, part 2 (rights management); C2PA technical specification 1.4
(`c2pa.training-mining`); CAWG training and data mining assertion 1.1 (`cawg.training-mining`);
ISO/IEC 19566-5 (JUMBF); RFC 8949 (CBOR).
"""

from __future__ import annotations

import html
import json
import re
import zlib
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

from alignset.transforms.columns.pair_columns import C2PA, XMP_DATA_MINING
from alignset.transforms.images.file_formats import FileLook, png_chunks
from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings
from alignset.transforms.workers.unexpected import tell_once

_LABELS = (b"c2pa.training-mining", b"cawg.training-mining")
_WORD = b"training-mining"  # in each of them
# Uses that are training or mining; inference is neither.
_USES = ("data_mining", "ai_training", "ai_generative_training")
# What is constrained needs leave, which nobody has given.
_REFUSALS = ("notallowed", "constrained")
_MOST_BOXES, _DEEPEST = 10_000, 8
_DEEPEST_CBOR, _BREAK = 16, object()
_MOST_BYTES = 1 << 16  # of all assertions, which have some hundred each; CBOR takes 1 us a byte


def forbids_training(store: bytes) -> bool:
    """Whether an assertion in a manifest store, which is a JUMBF superbox, does not allow training
    or data mining. The manifests of ingredients count too, since these are in the image."""
    if _WORD not in store:
        return False
    waiting, boxes_left, bytes_left = [(0, len(store), 0)], _MOST_BOXES, _MOST_BYTES
    while waiting:
        begin, end, depth = waiting.pop()
        children = []
        for child in boxes(store, begin, end):
            boxes_left -= 1
            if boxes_left < 0:
                return False
            children.append(child)
        label = _label(store, children)
        if label.partition(b"__")[0] in _LABELS:
            bytes_left -= sum(stop - at for _, at, stop in children)
            if bytes_left < 0:
                return False
            if any(_refuses(store, child) for child in children):
                return True
        elif depth < _DEEPEST:
            waiting += [(at, stop, depth + 1) for kind, at, stop in children if kind == b"jumb"]
    return False


def boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, begin and end of its content) of each box; one that claims to be longer ends where
    what it lies in does."""
    while at + 8 <= end:
        size, head = int.from_bytes(data[at : at + 4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        stop = min(at + size, end) if size else end
        if stop < at + head:
            return
        yield data[at + 4 : at + 8], at + head, stop
        at = stop


def _label(data: bytes, children: list[tuple[bytes, int, int]]) -> bytes:
    """The label of a superbox in its description box, which comes first: behind its UUID and
    flags."""
    if not children or children[0][0] != b"jumd":
        return b""
    _, begin, end = children[0]
    return data[begin + 17 : min(end, begin + 17 + 256)].partition(b"\0")[0]


def _refuses(data: bytes, child: tuple[bytes, int, int]) -> bool:
    kind, begin, end = child
    if kind not in (b"cbor", b"json"):
        return False
    try:
        content = data[begin:end]
        assertion = decode_cbor(content) if kind == b"cbor" else json.loads(content)
    except (ValueError, RecursionError):
        return False
    if not isinstance(assertion, dict):
        return False
    entries = assertion.get("entries")
    if not isinstance(entries, dict):
        entries = assertion  # the first writers put them at the top
    return any(
        name.rpartition(".")[2] in _USES
        and str(value.get("use") if isinstance(value, dict) else value).lower() in _REFUSALS
        for name, value in entries.items()
    )


def decode_cbor(data: bytes) -> Any:
    """The first value in these bytes: texts, numbers, lists, dicts; None for what is none of these.

    A map keeps entries with a text or a number as key: the text of a map as key may double with
    each map around it.

    Raises:
      ValueError: they are not CBOR, end too early, or are nested too deep.
    """
    return _Reader(data).value(0)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def _take(self, size: int) -> bytes:
        if size > len(self._data) - self._at:
            raise ValueError("it ends too early")
        self._at += size
        return self._data[self._at - size : self._at]

    def value(self, depth: int) -> Any:
        """The next value; `_BREAK` at the end of what has no length of its own."""
        if depth > _DEEPEST_CBOR:
            raise ValueError("it is nested too deep")
        (initial,) = self._take(1)
        kind, low = initial >> 5, initial & 31
        if initial == 0xFF:
            return _BREAK
        if low == 31:
            return self._endless(kind, depth)
        if low > 27:
            raise ValueError("a length that there is not")
        number = low if low < 24 else int.from_bytes(self._take(1 << (low - 24)), "big")
        if kind < 2:
            return number if kind == 0 else -1 - number
        if kind < 4:
            string = self._take(number)
            return string if kind == 2 else string.decode("utf-8", "replace")
        if kind < 6:
            many = range(min(number << (kind - 4), len(self._data)))  # each takes a byte
            return _joined(kind, [self._item(depth) for _ in many])
        if kind == 6:  # a tag
            return self._item(depth)
        return {20: False, 21: True}.get(number) if low < 24 else None

    def _item(self, depth: int) -> Any:
        value = self.value(depth + 1)
        if value is _BREAK:
            raise ValueError("it ends where nothing has begun")
        return value

    def _endless(self, kind: int, depth: int) -> Any:
        if kind not in (2, 3, 4, 5):
            raise ValueError("this has a length")
        items = []
        while (value := self.value(depth + 1)) is not _BREAK:
            items.append(value)
        if kind > 3:
            return _joined(kind, items)
        empty: Any = b"" if kind == 2 else ""
        if not all(isinstance(item, type(empty)) for item in items):
            raise ValueError("a string of other things")
        return empty.join(items)


def _joined(kind: int, items: list[Any]) -> Any:
    if kind == 4:
        return items
    pairs = zip(items[::2], items[1::2], strict=False)
    return {str(name): value for name, value in pairs if isinstance(name, str | int)}


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


class FileOptOuts(NamedTuple):
    """Attributes:
    opt_outs: details of `opted_out`, in their order.
    web_statement, usage_terms: where and how the licence is stated, in XMP.
    """

    opt_outs: tuple[str, ...] = ()
    web_statement: str | None = None
    usage_terms: str | None = None


def xmp_terms(packet: bytes) -> FileOptOuts:
    """The terms in an XMP packet of UTF-8, looked for without an XML parser, which hostile packets
    could keep busy: as attributes, as elements, or as the first text of a list of languages."""
    packet = packet[:MOST_BYTES]
    prohibited = b"DataMining" in packet and any(
        _PROHIBITED.search(match[0]) for match in _DATA_MINING.finditer(packet)
    )
    opt_outs = (XMP_DATA_MINING,) if prohibited else ()
    return FileOptOuts(opt_outs, _text(packet, b"WebStatement"), _text(packet, b"UsageTerms"))


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


def file_opt_outs(look: FileLook, settings: OptOutSettings) -> FileOptOuts:
    """Opt-outs and licence of a file. Raises nothing, whatever it is; may be called by many
    threads."""
    try:
        parts = embedded(look)
        stated = xmp_terms(parts.xmp)
        opt_outs = stated.opt_outs if settings.xmp_data_mining else ()
        if settings.c2pa and forbids_training(parts.c2pa):
            opt_outs += (C2PA,)
        return stated._replace(opt_outs=opt_outs)
    except Exception as error:
        tell_once("looking for opt-outs in a file", error)
        return FileOptOuts()


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
