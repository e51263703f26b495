"""What the boxes of an AVIF say, and which files are not given to libavif for it."""

import struct
from collections.abc import Callable

import pytest
from PIL import Image as PillowImage

from alignset.transforms.images import avif_header as module
from alignset.transforms.images.avif_header import AvifHeader, avif_header
from alignset.transforms.images.examine import Image, Unusable, examine
from alignset.transforms.images.open_picture import open_picture
from tests.support.avif_files import (
    coded_frame,
    find_box,
    frame_file,
    grid,
    many_entries,
    many_properties,
    one_item,
)
from tests.support.picture_files import encoded, photograph, transparent

MOVING = {"save_all": True, "append_images": [photograph(1), photograph(2)]}
REAL = {
    "colour": encoded(photograph(), "AVIF"),
    "alpha": encoded(transparent(), "AVIF"),
    "grey": encoded(photograph().convert("L"), "AVIF"),
    "full chroma": encoded(photograph(), "AVIF", subsampling="4:4:4", quality=95),
    "animated": encoded(photograph(), "AVIF", **MOVING),
    "animated alpha": encoded(transparent(), "AVIF", save_all=True, append_images=[transparent()]),
    "grid": grid([frame_file(64, n) for n in range(6)], 2, 3, 64),
    "cut grid": grid([frame_file(64, n) for n in range(6)], 2, 3, 64, says=(160, 120)),
    "one item": one_item(frame_file(64), coded_frame(frame_file(64)), (64, 64)),
}


@pytest.mark.parametrize("name", REAL)
def test_real_files_have_the_size_that_pillow_finds(name: str) -> None:
    picture = open_picture(REAL[name], "avif")
    assert avif_header(REAL[name]) == (*picture.size, None)
    picture.load()
    assert isinstance(examine(REAL[name]), Image)


FRAME = frame_file(64)
OBUS = coded_frame(FRAME)
LIES = FRAME.replace(struct.pack(">II", 64, 64), struct.pack(">II", 30, 30))
TRACK = REAL["animated"]
HEADER = find_box(TRACK, b"tkhd")
HOSTILE = {
    "tiles that share bytes": grid([FRAME], 8, 8, 64),
    "tiles larger than they say": grid([frame_file(128, n) for n in range(4)], 2, 2, 64),
    "too many tiles": grid([frame_file(64, n) for n in range(66)], 6, 11, 64),
    "a frame larger than it says": LIES,
    "frames behind the one that is shown": one_item(FRAME, OBUS + OBUS[2:] * 40, (64, 64)),
    "empty OBUs": one_item(FRAME, OBUS + b"\x12\0" * 2_000, (64, 64)),
    "references": many_entries(b"iref", 5_000),
    "items": many_entries(b"iinf", 5_000),
    "properties": many_properties(5_000),
    "boxes": FRAME + struct.pack(">I4s", 8, b"free") * 20_000,
    "a track larger than it says": TRACK.replace(
        HEADER, HEADER[:-8] + struct.pack(">II", 9 << 16, 9 << 16)
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_would_cost_more_than_it_says_is_not_decoded(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(*_: object) -> None:
        raise AssertionError("it is decoded")

    monkeypatch.setattr("alignset.transforms.images.decode.call_limited", decode)
    verdict = examine(HOSTILE[name])
    assert isinstance(verdict, Unusable)
    assert (verdict.reason, verdict.detail) == ("undecodable", "too_costly")


def boxes_of(read: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> int:
    """How many boxes and numbers are read."""
    reads: list[int] = []
    with monkeypatch.context() as patched:
        for owner, name in ((module.Reader, "number"), (module.struct, "unpack_from")):
            inner = getattr(owner, name)
            patched.setattr(owner, name, lambda *args, of=inner: reads.append(1) or of(*args))
        read()
    return len(reads)


@pytest.mark.parametrize("table", [b"iinf", b"iref"])
def test_large_tables_are_read_no_further_than_small_ones(
    table: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = (many_entries(table, count) for count in (5_000, 10_000))
    reads = [boxes_of(lambda: avif_header(body), monkeypatch) for body in (small, large)]  # noqa: B023
    assert 0 < reads[0] == reads[1] < 5_000


def test_a_size_is_known_though_the_file_is_refused_or_cut() -> None:
    assert avif_header(LIES) == (30, 30, "too_costly")
    assert avif_header(REAL["colour"][:-9]) == (*photograph().size, "truncated")
    layered = find_box(LIES, b"pixi")  # layers may be smaller than their frame
    body = LIES.replace(layered, struct.pack(">I", len(layered)) + b"lsel" + layered[8:])
    assert avif_header(body) == AvifHeader(30, 30, None)


@pytest.mark.parametrize("name", ["colour", "grid", "animated"])
def test_every_cut_is_a_fault(name: str) -> None:
    body = REAL[name]
    for length in range(12, len(body), 1 + len(body) // 300):
        assert avif_header(body[:length]).fault, length


@pytest.mark.parametrize("kind", [b"pitm", b"iloc", b"iinf", b"iprp", b"ispe", b"meta"])
def test_a_file_without_a_box_it_needs_is_broken(kind: bytes) -> None:
    assert avif_header(FRAME.replace(kind, b"free")).fault == "broken"


def test_sequence_headers_with_timing() -> None:
    """As encoders of films write them."""
    frames = {"save_all": True, "append_images": [PillowImage.new("RGB", (200, 120), "red")]}
    moving = encoded(PillowImage.new("RGB", (200, 120)), "AVIF", **frames)
    assert avif_header(moving)[:2] == (200, 120)
    data = coded_frame(FRAME)
    begin = 2 if data[0] >> 3 & 15 == 2 else 0
    assert module.sequence_size(data[begin + 2 :]) == (64, 64)
