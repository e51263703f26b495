"""Facts about the bytes of one file, without a decode: format, size, segments, and what is
wrong."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import takewhile

from alignset.transforms.images.headers import (
    AvifHeader,
    JpegHeader,
    Segments,
    avif_header,
    has_too_many_scans,
    jpeg_header,
    jpeg_segments,
)

# What files of images are called, in the formats that are read.
IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "avif")
IMAGE_SUFFIXES = tuple(f".{extension}" for extension in IMAGE_EXTENSIONS)
# What other files of images are called; of these JFIF and JPE are JPEGs, and the rest is not read.
OTHER_IMAGE_SUFFIXES = (".jfif", ".jpe", ".tif", ".tiff", ".jp2", ".jxl", ".heic", ".heif", ".ppm")
_JPEG, _PNG, _BMP = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM"
_GIFS = (b"GIF87a", b"GIF89a")
_GIF_TRAILER, _GIF_EXTENSION, _GIF_IMAGE, _GIF_CONTROL = 0x3B, 0x21, 0x2C, b"\xf9"
_GIF_APPLICATION, _MOST_APPLICATIONS = b"\x21\xff\x0b", 100
_AVIF_BRANDS = (b"avif", b"avis")
_BMP_HEADERS = frozenset(struct.pack("<I", size) for size in (12, 16, 40, 52, 56, 64, 108, 124))
# TIFF, ICO, PSD, JPEG XL, JPEG 2000, Flash, Ogg, Matroska; HEIC and MP4 are told by their "ftyp".
_OTHER_FORMATS = (
    *(b"II*\0", b"MM\0*", b"\0\0\1\0", b"8BPS", b"\xff\x0a", b"\0\0\0\x0cJXL ", b"\0\0\0\x0cjP  "),
    *(b"FWS", b"CWS", b"OggS", b"\x1aE\xdf\xa3", b"RIFF"),
)
_HTML = re.compile(
    rb"<(?:!doctype html|html|head|body|script|title|meta|div|iframe|h1|p|br)\b", re.I
)


def signature_format(body: bytes) -> str | None:
    """ "jpeg", "png", "webp", "gif", "bmp" or "avif" by the file's signature, or None."""
    if body.startswith(_JPEG):
        return "jpeg"
    if body.startswith(_PNG):
        return "png"
    if body[:4] == b"RIFF" and body[8:12] == b"WEBP":
        return "webp"
    if body.startswith(_GIFS):
        return "gif"
    if body[4:8] == b"ftyp":
        end = min(int.from_bytes(body[:4], "big"), 256)
        brands = [body[8:12], *(body[at : at + 4] for at in range(16, end, 4))]
        if any(brand in _AVIF_BRANDS for brand in brands):
            return "avif"
    # "BM" alone begins many a text: a bitmap's next header has one of a few sizes.
    if body.startswith(_BMP) and body[14:18] in _BMP_HEADERS:
        return "bmp"
    return None


def foreign_kind(body: bytes) -> str:
    """The format of a file without one of the six signatures; the details of `not_an_image`."""
    if not body:
        return "empty"
    if body[4:8] == b"ftyp" or body.startswith(_OTHER_FORMATS):
        return "other_format"
    start = body[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"%PDF-"):
        return "pdf"
    if start[:1] in (b"{", b"["):
        return "json"
    if not start.startswith(b"<"):
        return "unknown"
    html = _HTML.search(start)
    svg = re.search(rb"<svg\b", start, re.I)
    if svg and (not html or svg.start() < html.start()):
        return "svg"
    return "html" if html else "xml" if start.startswith(b"<?xml") else "unknown"


def webp_canvas(body: bytes) -> tuple[int, int]:
    """(width, height) in px of a WebP, as its header has them; (0, 0) where it cannot be read."""
    kind, data = body[12:16], body[20:30]
    if len(data) < 10:
        return 0, 0
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[4:7], "little"), 1 + int.from_bytes(data[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack("<HH", data[6:10])
    return width & 0x3FFF, height & 0x3FFF


def png_chunks(body: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(kind, begin and end of its data) of each whole chunk."""
    at = len(_PNG)
    while at + 12 <= len(body):
        begin = at + 8
        end = begin + int.from_bytes(body[at : at + 4], "big")
        if end + 4 > len(body):
            return
        yield body[at + 4 : begin], begin, end
        at = end + 4


def png_error(body: bytes) -> str | None:
    """ "truncated" or "broken", or None."""
    if len(body) >= 33 and not any(png_size(body)):  # Pillow would read a size further on
        return "broken"
    view = memoryview(body)
    for kind, begin, end in png_chunks(body):
        # Critical chunks have a capital letter first. Pillow checks no sums of the pixels' chunks.
        if kind[:1].isupper():
            checksum = int.from_bytes(body[end : end + 4], "big")
            if zlib.crc32(view[begin - 4 : end]) != checksum:
                return "broken"
        if kind == b"IEND":
            return None
    return "truncated"


def png_of_one_profile(body: bytes) -> bytes:
    """A PNG without the colour profiles behind its first: Pillow inflates each, 2 s a MB."""
    if body.count(b"iCCP") < 2:
        return body
    profiles = [(begin - 8, end + 4) for kind, begin, end in png_chunks(body) if kind == b"iCCP"]
    return _cut_spans(body, profiles[1:])


def _cut_spans(body: bytes, spans: Iterable[tuple[int, int]]) -> bytes:
    pieces, since = [], 0
    for begin, end in spans:
        pieces.append(body[since:begin])
        since = end
    return b"".join([*pieces, body[since:]])


# The first column and row of each of an interlaced PNG's seven passes, and the steps to the next.
_ADAM7 = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)


def png_lacks_pixels(body: bytes) -> bool:
    """Whether a PNG's data end before its header's last row. Takes as long as half a decode."""
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", body[16:29])
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    missing = 0
    for left, top, across, down in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:  # a filter byte begins each row
            missing += rows * (1 + (columns * bits + 7) // 8)
    inflating = zlib.decompressobj()
    for kind, begin, end in png_chunks(body):
        data = body[begin:end] if kind == b"IDAT" else b""
        while data and missing > 0:
            missing -= len(inflating.decompress(data, 1 << 20))
            data = inflating.unconsumed_tail
    return missing > 0


def _gif_blocks(body: bytes) -> Iterator[tuple[int, int, int]]:
    """(kind, begin and end) of each block of a GIF, from behind its header; the last may be cut."""
    at = 13 + _palette_bytes(body[10] if len(body) > 12 else 0)
    while at < len(body):
        begin, kind = at, body[at]
        if kind == _GIF_TRAILER:
            yield kind, begin, at + 1
            return
        if kind == _GIF_EXTENSION:  # its label, then blocks
            at += 2
        elif kind == _GIF_IMAGE and at + 10 <= len(body):  # descriptor, palette, code size, blocks
            at += 11 + _palette_bytes(body[at + 9])
        else:  # junk, which decoders skip
            at += 1
            continue
        while at < len(body) and body[at]:
            at += 1 + body[at]
        at += 1
        yield kind, begin, at


def png_size(body: bytes) -> tuple[int, int]:
    """(width, height) in px of a PNG, as its header has them; (0, 0) where that is not first."""
    if len(body) < 33 or body[12:16] != b"IHDR":
        return 0, 0
    width, height = struct.unpack_from(">II", body, 16)
    return width, height


def gif_size(body: bytes) -> tuple[int, int]:
    """(width, height) in px of a GIF: its screen's, or more where its first image lies beyond."""
    if len(body) < 13:
        return 0, 0
    width, height = struct.unpack_from("<HH", body, 6)
    for kind, begin, _ in _gif_blocks(body):
        if kind == _GIF_IMAGE and begin + 9 <= len(body):
            left, top, across, down = struct.unpack_from("<HHHH", body, begin + 1)
            return max(width, left + across), max(height, top + down)
    return width, height


def bmp_size(body: bytes) -> tuple[int, int]:
    """(width, height) in px of a bitmap, whose rows may begin at its top."""
    if body[14:15] == b"\x0c":
        width, height = struct.unpack_from("<HH", body.ljust(26, b"\0"), 18)
    else:
        width, height = struct.unpack_from("<ii", body.ljust(26, b"\0"), 18)
    return max(0, width), abs(height)


def gif_without_comments(body: bytes) -> bytes:
    """A GIF without what stands before its first image and does not concern it.

    Pillow joins comments in quadratic time: 4 MB of them take two minutes.
    """
    before_image = takewhile(lambda block: block[0] != _GIF_IMAGE, _gif_blocks(body))
    return _cut_spans(
        body,
        (
            (begin, end)
            for kind, begin, end in before_image
            if kind == _GIF_EXTENSION and body[begin + 1 : begin + 2] != _GIF_CONTROL
        ),
    )


def is_cut_bmp(body: bytes) -> bool:
    """Whether a run-length coded bitmap cannot hold its pixels: two bytes hold at most 255.

    The decoder judges other bitmaps, quickly. It takes 50 ns for each pixel that a run-length coded
    one lacks, and leaves it black.
    """
    if len(body) < 34 or body[14] < 40 or body[30] not in (1, 2):
        return False
    width, height = struct.unpack("<ii", body[18:26])
    return abs(width * height) > 128 * len(body)


def _palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


# Where Pillow begins to warn. Decoding that many takes up to 1.5 GB.
MAX_PIXELS = 89_478_485
# px of either side: Pillow holds 8 bytes for each row, and resizing makes long lines longer. No
# image of such a side passes `--max_image_aspect`.
MAX_SIDE = (1 << 16) - 1
_SIZES = {"png": png_size, "gif": gif_size, "bmp": bmp_size, "webp": webp_canvas}


class FileLook:
    """The bytes of one image, and what they say: found once, when it is first asked for.

    Attributes:
      body: the file.
      format: "jpeg", "png", "webp", "gif", "bmp" or "avif" by the file's signature, or None.
    """

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.format = signature_format(body)

    @cached_property
    def segments(self) -> Segments:
        """The segments of a JPEG before its first scan."""
        return jpeg_segments(self.body)

    @cached_property
    def jpeg(self) -> JpegHeader | None:
        """The header of a JPEG; None of other files, and where no scan follows one frame."""
        return jpeg_header(self.body, self.segments) if self.format == "jpeg" else None

    @cached_property
    def gif(self) -> tuple[bool, list[int]]:
        """Whether a GIF's trailer is there, and where the first extensions of programs begin."""
        ends, applications = False, list[int]()
        for kind, begin, _ in _gif_blocks(self.body):
            ends = kind == _GIF_TRAILER
            is_application = self.body.startswith(_GIF_APPLICATION, begin)
            if is_application and len(applications) < _MOST_APPLICATIONS:
                applications.append(begin)
        return ends, applications

    @cached_property
    def avif(self) -> AvifHeader:
        """The boxes of an AVIF."""
        return avif_header(self.body)

    @cached_property
    def size(self) -> tuple[int, int]:
        """(width, height) in px as the header has them; (0, 0) where it cannot be read."""
        if self.format == "jpeg":
            return (self.jpeg.width, self.jpeg.height) if self.jpeg else (0, 0)
        if self.format == "avif":
            return self.avif[:2]
        return _SIZES[self.format](self.body) if self.format else (0, 0)

    @cached_property
    def refusal(self) -> str | None:
        """Why no decoder is given the file, whole as it may be: it would take too long or too much
        memory. A detail of "undecodable", or None.

        The one check of this kind, for curation and for training.
        """
        width, height = self.size
        if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
            return "too_many_pixels"
        if self.format == "avif" and self.avif.error == "too_costly":
            return self.avif.error
        if self.jpeg and has_too_many_scans(self.body, self.jpeg):
            return "too_many_scans"
        return None

    @cached_property
    def error(self) -> str | None:
        """Why a file of a known format is not decoded, as a detail of "undecodable"; None where it
        looks whole.

        Decoders stop when they have their pixels, often of the first frame alone, and miss a lost
        end.
        """
        body, is_cut = self.body, False
        match self.format:
            case "png":
                return png_error(body)
            case "avif":
                return self.avif.error
            case "gif":
                is_cut = not self.gif[0]
            case "webp":
                is_cut = 8 + int.from_bytes(body[4:8], "little") > len(body)
            case "bmp":
                is_cut = is_cut_bmp(body)
            case "jpeg":
                scan, header = self.segments.scan, self.jpeg
                # No end marker follows the scan; a thumbnail's lies before it.
                is_cut = scan >= 0 and body.rfind(b"\xff\xd9", scan) < 0
                if header is None:  # or a thousand segments before it, which Pillow would join
                    is_cut = is_cut or (scan < 0 and not self.segments.too_many)
                    return "truncated" if is_cut else "broken"
                if header.error:
                    return header.error
        return "truncated" if is_cut else None
