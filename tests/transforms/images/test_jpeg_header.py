"""JPEGs: the header as Pillow reads it, and headers in which another decoder would see another
image."""

import dataclasses
import io

import pytest
import simplejpeg
from PIL import Image as PillowImage

from alignset.transforms.images.examine import Image, Unusable, examine
from alignset.transforms.images.file_formats import FileLook
from alignset.transforms.images.jpeg_header import (
    MAX_SCANS,
    JpegHeader,
    has_too_many_scans,
    jpeg_segments,
)
from alignset.transforms.images.perceptual_hash import picture_hash
from tests.support.picture_files import encoded, photograph

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
