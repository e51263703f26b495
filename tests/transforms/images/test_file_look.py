"""What is known of a file without a decode, and that hostile files are images or a reason."""

import struct
import zlib

import pytest

from alignset.transforms.images import file_formats
from alignset.transforms.images.examine import Image, Unusable, examine
from alignset.transforms.images.file_formats import FileLook
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


@pytest.mark.parametrize("name", GOOD)
def test_a_whole_file(name: str) -> None:
    look = FileLook(GOOD[name])
    assert (look.format, look.fault) == (name.split()[0], None)
    assert (look.jpeg is not None) == (look.format == "jpeg")


def test_each_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it is asked for."""
    calls = []
    for name in ("signature_format", "jpeg_segments", "jpeg_header", "has_too_many_scans"):
        function = getattr(file_formats, name)
        counted = lambda *args, name=name, function=function: calls.append(name) or function(*args)  # noqa: E731
        monkeypatch.setattr(file_formats, name, counted)
    look = FileLook(GOOD["jpeg"])
    for _ in range(3):
        assert isinstance(examine(look), Image)
        assert look.segments.scan > 0
    assert sorted(calls) == sorted({*calls})
    assert len(calls) == 4


MANY_SCANS = encoded(photograph(), "JPEG", progressive=True)[:-2] + b"\xff\xda" * 99 + b"\xff\xd9"
FAULTS = {
    "no end": (GOOD["jpeg"][:-2], "truncated"),
    "no scan": (GOOD["jpeg"][:100], "truncated"),
    "a thousand segments": (b"\xff\xd8" + b"\xff\xe0\0\2" * 1001 + GOOD["jpeg"][2:], "broken"),
    "a thousand segments and no end": (b"\xff\xd8" + b"\xff\xe0\0\2" * 1001, "broken"),
    "lossless": (lossless(64, 64, 1), "lossless"),
    "too many scans": (MANY_SCANS, "too_many_scans"),
    "PNG without its end": (GOOD["png"][:-12], "truncated"),
    "PNG with a wrong sum": (GOOD["png"][:-20] + b"?" + GOOD["png"][-19:], "broken"),
    "WebP": (GOOD["webp"][:-1], "truncated"),
    "GIF": (GOOD["gif"][:-1], "truncated"),
    "AVIF": (GOOD["avif"][:-1], "truncated"),
    "a MiB of fill bytes": (
        GOOD["jpeg"][:2] + b"\xff" * ((1 << 20) + 2) + GOOD["jpeg"][2:],
        "broken",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults(name: str) -> None:
    body, fault = FAULTS[name]
    assert (FileLook(body).refusal or FileLook(body).fault) == fault
    verdict = examine(body)
    assert isinstance(verdict, Unusable)
    assert (verdict.reason, verdict.detail) == ("undecodable", fault)


ROWS = bytes(10 * (1 + 30))
PNGS = {
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


@pytest.mark.parametrize("name", PNGS)
def test_odd_pngs_are_pictures_or_have_a_reason(name: str) -> None:
    body, fault = PNGS[name]
    verdict = examine(body)
    assert (verdict.detail if isinstance(verdict, Unusable) else "") == fault
