"""What is known of a file without a decode, and that odd files are images or have a reason."""

import struct
import zlib

import pytest

from alignset.transforms.images.examine import Image, Unusable, examine
from alignset.transforms.images.file_formats import FileLook, foreign_kind, signature_format
from tests.support.jpeg_frames import lossless
from tests.support.picture_files import encoded, good_files, photograph

GOOD = good_files()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, colour: int, rows: bytes, *more: bytes, **other: int) -> bytes:
    """A PNG of these filtered rows, with other chunks before them."""
    head = struct.pack(
        ">IIBBBBB", width, height, other.get("depth", 8), colour, 0, 0, other.get("interlaced", 0)
    )
    packed = zlib.compress(rows)
    if "checksum" in other:
        packed = packed[:-4] + struct.pack(">I", other["checksum"])
    chunks = [chunk(b"IHDR", head), *more, chunk(b"IDAT", packed), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html><body>no hotlinks</body></html>", "html"),
        (b"<!-- a comment --><script>1</script>", "html"),
        (b"<html><body><svg></svg></body></html>", "html"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><title>a</title></svg>", "svg"),
        (b"<?xml version='1.0'?><!-- drawn --><svg/>", "svg"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "xml"),
        (b'{"error": 404}', "json"),
        (b"%PDF-1.7", "pdf"),
        (b"II*\0" + bytes(40), "other_format"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "other_format"),
        (b"RIFF\0\0\0\0WAVEfmt ", "other_format"),
        (b"Not Found", "unknown"),
        (b"BMW is a brand of cars, and this is no bitmap", "unknown"),
        (bytes(100), "unknown"),
    ],
)
def test_what_is_no_image(body: bytes, kind: str) -> None:
    assert signature_format(body) is None
    assert foreign_kind(body) == kind
    assert examine(body) == Unusable("not_an_image", kind)


JPEG, PNG = GOOD["jpeg"], GOOD["png"]
MANY_SCANS = encoded(photograph(), "JPEG", progressive=True)[:-2] + b"\xff\xda" * 99 + b"\xff\xd9"
ROWS = bytes(10 * (1 + 30))
LATE_HEADER = PNG[:8] + chunk(b"tEXt", b"a\0b") + chunk(b"IHDR", b"\0\0\xea\x60" * 2 + PNG[24:29])
FAULTS = {
    "no end": (JPEG[:-2], "truncated"),
    "no scan": (JPEG[:100], "truncated"),
    "a thousand segments": (b"\xff\xd8" + b"\xff\xe0\0\2" * 1001 + JPEG[2:], "broken"),
    "a thousand segments and no end": (b"\xff\xd8" + b"\xff\xe0\0\2" * 1001, "broken"),
    "a MiB of fill bytes": (JPEG[:2] + b"\xff" * ((1 << 20) + 2) + JPEG[2:], "broken"),
    "lossless": (lossless(64, 64, 1), "lossless"),
    "too many scans": (MANY_SCANS, "too_many_scans"),
    "PNG without its end": (PNG[:-12], "truncated"),
    "PNG with a wrong sum": (PNG[:-20] + b"?" + PNG[-19:], "broken"),
    "PNG whose header is not first": (LATE_HEADER + PNG[33:], "broken"),
    "WebP": (GOOD["webp"][:-1], "truncated"),
    "GIF": (GOOD["gif"][:-1], "truncated"),
    "AVIF": (GOOD["avif"][:-1], "truncated"),
}
SEEN_AT_ITS_DECODE = {
    "a wrong sum of the stream": (png(10, 10, 2, ROWS, checksum=1), "broken"),
    "interlaced, too few rows": (png(40, 40, 2, ROWS, interlaced=1), "truncated"),
    "too few rows": (png(10, 11, 2, ROWS), "truncated"),
    "no such filter": (png(10, 10, 2, b"\x09" + ROWS[1:]), "broken"),
    "no pixels": (png(0, 10, 2, b""), "broken"),
    "no palette": (png(10, 10, 3, ROWS), "broken"),
    "a depth that there is not": (png(10, 10, 2, ROWS, depth=4), "broken"),
    "a colour that there is not": (png(10, 10, 5, ROWS), "broken"),
    "an order that there is not": (png(10, 10, 0, ROWS, interlaced=2), ""),
    "too many rows": (png(10, 9, 2, ROWS), ""),
    "a chunk that must be understood": (png(10, 10, 2, ROWS, chunk(b"ABCD", b"")), ""),
    "thousands of chunks": (png(10, 10, 2, ROWS, *[chunk(b"tIME", b"")] * 8_192), ""),
    "EXIF": (png(10, 10, 2, ROWS, chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\0\0\0\0\0")), ""),
    "XMP": (png(10, 10, 2, ROWS, chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0")), ""),
    "one colour that is transparent": (png(10, 10, 2, ROWS, chunk(b"tRNS", bytes(6))), ""),
}


@pytest.mark.parametrize("name", FAULTS | SEEN_AT_ITS_DECODE)
def test_odd_files_are_pictures_or_have_a_reason(name: str) -> None:
    body, fault = (FAULTS | SEEN_AT_ITS_DECODE)[name]
    if name in FAULTS:
        assert (FileLook(body).refusal or FileLook(body).error) == fault
    verdict = examine(body)
    if fault:
        assert isinstance(verdict, Unusable)
        assert (verdict.reason, verdict.detail) == ("undecodable", fault)
    else:
        assert isinstance(verdict, Image)
