"""What is known of a file without a decode, and that odd files are images or have a reason."""

import dataclasses
import io
import struct
import zlib

import pytest
import simplejpeg
from PIL import Image as PillowImage

from alignset.transforms.images.decode import open_picture
from alignset.transforms.images.examine import Image, Unusable, examine
from alignset.transforms.images.file_formats import FileLook, foreign_kind, signature_format
from alignset.transforms.images.headers import (
    MAX_SCANS,
    JpegHeader,
    avif_header,
    has_too_many_scans,
    jpeg_segments,
)
from alignset.transforms.images.perceptual_hash import picture_hash
from tests.fuzz.pictures import png_chunk
from tests.support.avif_files import (
    box,
    coded_frame,
    frame_file,
    full_box,
    grid,
    many_entries,
    one_item,
)
from tests.support.jpeg_frames import lossless
from tests.support.picture_files import encoded, good_files, photograph, transparent

GOOD = good_files()


def png(width: int, height: int, colour: int, rows: bytes, *more: bytes, **other: int) -> bytes:
    """A PNG of these filtered rows, with other chunks before them."""
    head = struct.pack(
        ">IIBBBBB", width, height, other.get("depth", 8), colour, 0, 0, other.get("interlaced", 0)
    )
    packed = zlib.compress(rows)
    if "checksum" in other:
        packed = packed[:-4] + struct.pack(">I", other["checksum"])
    chunks = [png_chunk(b"IHDR", head), *more, png_chunk(b"IDAT", packed), png_chunk(b"IEND", b"")]
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
LATE_HEADER = (
    PNG[:8] + png_chunk(b"tEXt", b"a\0b") + png_chunk(b"IHDR", b"\0\0\xea\x60" * 2 + PNG[24:29])
)
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
    "a chunk that must be understood": (png(10, 10, 2, ROWS, png_chunk(b"ABCD", b"")), ""),
    "thousands of chunks": (png(10, 10, 2, ROWS, *[png_chunk(b"tIME", b"")] * 8_192), ""),
    "EXIF": (png(10, 10, 2, ROWS, png_chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\0\0\0\0\0")), ""),
    "XMP": (png(10, 10, 2, ROWS, png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0")), ""),
    "one colour that is transparent": (png(10, 10, 2, ROWS, png_chunk(b"tRNS", bytes(6))), ""),
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


# JPEGs: the header as Pillow reads it, and headers in which another decoder would see another
# image.

PHOTO = photograph(7, 640, 480)
USUAL = encoded(PHOTO, "JPEG", quality=75)


def jpeg_header(body: bytes) -> JpegHeader | None:
    return FileLook(body).jpeg


def test_annotations_and_junk_between_segments() -> None:
    assert jpeg_header(encoded(PHOTO, "JPEG", exif=b"Exif\0\0MM\0*")).annotated
    junk = USUAL[:20] + b"junk" + USUAL[20:]  # behind the first segment
    assert not jpeg_header(junk).usual
    assert not isinstance(examine(junk), Unusable)
    # Nothing behind the end is of the image.
    decoy = b"\xff\xd8\xff\xd9" + USUAL[2:]
    assert jpeg_segments(decoy).scan == -1
    for body in (decoy, b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\xff\xda\0\0", b"\xff\xd8" * 99):
        assert jpeg_header(body) is None
        assert isinstance(examine(body), Unusable)


def test_an_endless_header_is_none_soon() -> None:
    """So Pillow never gets it, which joins EXIF in quadratic time."""
    for piece in (b"\xff\xe0\0\2", b"\xff\xe1\0\x08Exif\0\0", b"\xff\xd0", b"\0\xff\0"):
        body = b"\xff\xd8" + piece * 100_000 + USUAL[2:]
        assert len(jpeg_segments(body).each) <= 1000
        assert jpeg_header(body) is None
        looked = examine(body)
        assert isinstance(looked, Unusable)
        broken = body.startswith(b"\xff\xd8\xff")  # else it is not a JPEG at all
        assert looked.detail == ("broken" if broken else "unknown")
    filled = b"\xff\xd8" + b"\xff" * 100_000 + USUAL[2:]
    assert jpeg_segments(filled).scan > 100_000


def test_scans_are_counted_where_there_may_be_many() -> None:
    many = b"\xff\xda" * (MAX_SCANS + 1)
    header = JpegHeader(9, 9, 0xC2, 1, 0, False, True)
    assert has_too_many_scans(many, header)
    assert not has_too_many_scans(many[2:], header)
    assert not has_too_many_scans(many, dataclasses.replace(header, frame=0xC0))
    large = dataclasses.replace(header, width=9000, height=9000)
    assert has_too_many_scans(many[:50], large)
    assert not has_too_many_scans(many[:40], large)


def altered() -> dict[str, bytes]:
    """Files in whose headers a decoder that takes them for usual would see another image, or one
    that others refuse."""
    at_scan = jpeg_header(USUAL).scan
    head, scan = USUAL[2:at_scan], USUAL[at_scan:]
    at = {marker: head.index(bytes((0xFF, marker))) for marker in (0xDB, 0xC0, 0xC4)}
    dqt, sof = head[at[0xDB] : at[0xDB] + 69], head[at[0xC0] : at[0xC4]]
    made = {
        "RST0": b"\xff\xd0" + head + scan,
        "TEM": b"\xff\x01" + head + scan,
        "fill bytes": head + b"\xff" + scan,
        "junk": head + b"\0" + scan,
        "two frames": head + sof + scan,
        "second SOI": head + b"\xff\xd8" + scan,
        "short DRI": head + b"\xff\xdd\0\3\0" + scan,
        "restarts": head + b"\xff\xdd\0\4\0\1" + scan,
        "table split over segments": head.replace(
            dqt, dqt[:3] + b"\x20" + dqt[4:34] + b"\xff\xdb\0\x25" + dqt[34:]
        )
        + scan,
        "precision 7": head.replace(dqt, dqt[:4] + b"\x70" + dqt[5:]) + scan,
        "twelve blocks a unit": head.replace(sof, sof[:11] + b"\x22\0\2\x22\1\3\x22\1") + scan,
        "extended": head.replace(b"\xff\xc0", b"\xff\xc1") + scan,
        "65 segments": b"\xff\xfe\0\2" * 61 + head + scan,
        "64 KiB": b"\xff\xfe\xff\xff" + bytes(0xFFFD) + head + scan,
        "components swapped": head + scan[:5] + scan[7:9] + scan[5:7] + scan[9:],
    }
    return {name: b"\xff\xd8" + rest for name, rest in made.items()}


@pytest.mark.parametrize("name", altered())
def test_a_header_that_decoders_may_read_differently(name: str) -> None:
    body = altered()[name]
    verdict = examine(body)
    if isinstance(verdict, Image):  # what viewers show
        shown = PillowImage.open(io.BytesIO(body))
        assert (verdict.width, verdict.height) == shown.size
        assert (verdict.phash ^ picture_hash(shown)).bit_count() <= 6
    else:
        assert name not in ("64 KiB", "65 segments", "RST0", "fill bytes")
        assert is_faulty(body)


def is_faulty(body: bytes) -> bool:
    """Whether libjpeg warns of it, or Pillow does not open it."""
    try:
        simplejpeg.decode_jpeg(body)
        PillowImage.open(io.BytesIO(body)).load()
    except (ValueError, OSError, SyntaxError):
        return True
    return False


# What the boxes of an AVIF say, and which files are not given to libavif for it.

MOVING = {"save_all": True, "append_images": [photograph(1), photograph(2)]}
REAL = {
    "colour": encoded(photograph(), "AVIF"),
    "alpha": encoded(transparent(), "AVIF"),
    "grey": encoded(photograph().convert("L"), "AVIF"),
    "animated": encoded(photograph(), "AVIF", **MOVING),
    "animated alpha": encoded(transparent(), "AVIF", save_all=True, append_images=[transparent()]),
    "cut grid": grid([frame_file(64, n) for n in range(6)], 2, 3, 64, says=(160, 120)),
    "one item": one_item(frame_file(64), coded_frame(frame_file(64)), (64, 64)),
}
FRAME = frame_file(64)


@pytest.mark.parametrize("name", REAL)
def test_real_files_have_the_size_that_pillow_finds_and_their_cuts_are_undecodable(
    name: str,
) -> None:
    body = REAL[name]
    picture = open_picture(body, "avif")
    assert avif_header(body) == (*picture.size, None)
    picture.load()
    assert isinstance(examine(body), Image)
    for length in range(12, len(body), 1 + len(body) // 100):
        assert avif_header(body[:length]).error or isinstance(examine(body[:length]), Unusable)
    assert avif_header(body[:-9]).error == "truncated"


@pytest.mark.parametrize("kind", [b"pitm", b"iloc", b"iinf", b"iprp", b"ispe", b"meta"])
def test_a_file_without_a_box_it_needs_is_broken(kind: bytes) -> None:
    verdict = examine(FRAME.replace(kind, b"free"))
    assert isinstance(verdict, Unusable)
    assert (verdict.reason, verdict.detail) == ("undecodable", "broken")


def test_tables_are_read_no_further_than_they_may_be() -> None:
    boxes = FRAME + struct.pack(">I4s", 8, b"free") * 20_000
    assert avif_header(boxes) == (64, 64, "too_costly")
    for table in (b"iinf", b"iref"):  # what libavif makes of these is the child's to bound
        assert avif_header(many_entries(table, 5_000)) == (64, 64, None)
    at = FRAME.index(b"ipma") + 8
    assert avif_header(FRAME[:at] + struct.pack(">I", 5_000) + FRAME[at + 4 :]).error


@pytest.mark.parametrize("count", [30, 1_000])
def test_tables_and_tracks_are_read_up_to_a_number(count: int) -> None:
    empty = full_box(b"ipma", 0, bytes(4))
    sizes = box(b"ipco", full_box(b"ispe", 0, struct.pack(">II", 64, 48)))
    named = full_box(b"ipma", 0, struct.pack(">I", 1), b"\0\1\1\1")
    properties = box(b"iprp", sizes, empty * count, named)
    meta = full_box(b"meta", 0, full_box(b"pitm", 0, b"\0\1"), properties)
    tracks = [box(b"trak", full_box(b"tkhd", 0, bytes(80)))] * count
    shown = full_box(b"tkhd", 0, bytes(72), struct.pack(">II", 64 << 16, 48 << 16))
    brand = box(b"ftyp", b"avis", bytes(4))
    expected = (64, 48, None) if count < 32 else (0, 0, "broken")
    assert avif_header(brand + meta) == expected
    assert avif_header(brand + box(b"moov", *tracks, box(b"trak", shown))) == expected
