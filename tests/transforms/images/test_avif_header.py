"""What the boxes of an AVIF say, and which files are not given to libavif for it."""

import struct

import pytest

from alignset.transforms.images.avif_header import avif_header
from alignset.transforms.images.examine import Image, Unusable, examine
from alignset.transforms.images.open_picture import open_picture
from tests.support.avif_files import coded_frame, frame_file, grid, many_entries, one_item
from tests.support.picture_files import encoded, photograph, transparent

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
