"""Headers that are known whole. What is decoded by them is held against libjpeg in
test_jpeg_header.py."""

import pytest

from alignset.transforms.images.usual_headers import Header, read_header
from tests.support.picture_files import encoded, photograph

PHOTO = photograph(7, 320, 248)
SCAN = b"\xff\xda"


def quality_75(**options: object) -> bytes:
    return encoded(PHOTO, "JPEG", quality=75, **options)


@pytest.mark.parametrize(
    ("subsampling", "luma"), [(0, (1, 1)), (1, (2, 1)), (2, (2, 2))], ids=["444", "422", "420"]
)
def test_what_a_usual_header_says(subsampling: int, luma: tuple[int, int]) -> None:
    body = quality_75(subsampling=subsampling)
    begin = body.index(SCAN) + 2 + 12  # of three components
    # The first quantum of luma is 16 (T.81, table K.1) at quality 50, and half of it at 75.
    assert read_header(body) == Header(320, 248, (luma, (1, 1), (1, 1)), 8, begin)


def test_grey_has_one_block_a_unit() -> None:
    body = encoded(PHOTO.convert("L"), "JPEG", quality=75)
    assert read_header(body) == Header(320, 248, ((1, 1),), 8, body.index(SCAN) + 2 + 8)


USUAL = quality_75()
HEAD, TAIL = USUAL[:2], USUAL[2:]
AT_TABLES = USUAL.index(b"\xff\xdb")
UNUSUAL = {
    "own tables": quality_75(optimize=True),
    "progressive": quality_75(progressive=True),
    "restarts": quality_75(restart_marker_blocks=4),
    "CMYK": encoded(PHOTO.convert("CMYK"), "JPEG"),
    "RGB": quality_75(keep_rgb=True),
    "no JPEG": b"\x89PNG" + TAIL,
    "nothing": b"",
    "cut in the header": USUAL[: USUAL.index(SCAN)],
    "no quanta": USUAL[:AT_TABLES] + USUAL[USUAL.index(b"\xff\xc0") :],
    "another segment": HEAD + b"\xff\xf0\x00\x04ab" + TAIL,
    "too many segments": HEAD + b"\xff\xfe\x00\x03a" * 64 + TAIL,
    "too long": HEAD + (b"\xff\xfe\x80\x00" + b"a" * 0x7FFE) * 2 + TAIL,
}


@pytest.mark.parametrize("body", UNUSUAL.values(), ids=UNUSUAL)
def test_another_header_is_none(body: bytes) -> None:
    assert read_header(body) is None


def test_comments_change_nothing() -> None:
    header = read_header(HEAD + b"\xff\xfe\x00\x03a" * 40 + TAIL)
    usual = read_header(USUAL)
    assert usual is not None
    assert header == usual._replace(begin=usual.begin + 200)
