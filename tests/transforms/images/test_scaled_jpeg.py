"""JPEGs at a part of their size: libjpeg's thumbnails of whole files, and none of damaged ones."""

import struct

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st

from alignset.transforms.images.examine import Unusable, examine
from alignset.transforms.images.file_formats import FileLook
from alignset.transforms.images.scaled_jpeg import grey_plane, scaled_jpeg
from tests.support.jpeg_frames import lossless
from tests.support.picture_files import encoded, photograph

PHOTO = photograph(7, 640, 480)
LARGE = {
    "quality 1": encoded(PHOTO, "JPEG", quality=1),
    "quality 75": encoded(PHOTO, "JPEG", quality=75),
    "own tables": encoded(PHOTO, "JPEG", optimize=True, quality=90),
    "grey": encoded(PHOTO.convert("L"), "JPEG", quality=85),
}


def plane_of(body: bytes, smallest_px: int) -> tuple[np.ndarray | None, str | None]:
    header = FileLook(body).jpeg
    return (None, None) if header is None else grey_plane(body, header, smallest_px)


@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize(
    ("smallest_px", "shape"), [(60, (60, 80)), (61, (120, 160)), (999, (480, 640))]
)
def test_the_smallest_scale_that_is_large_enough(
    name: str, smallest_px: int, shape: tuple[int, int]
) -> None:
    plane, fault = plane_of(LARGE[name], smallest_px)
    assert fault is None
    assert plane is not None
    assert plane.shape == shape
    smaller = PHOTO.convert("L").reduce(480 // shape[0])
    assert np.abs(plane.astype(int) - np.asarray(smaller)).mean() < (40 if "1" in name else 4)


def test_colours_and_sizes_that_are_not_multiples_of_eight() -> None:
    body = encoded(photograph(3, 489, 700), "JPEG")
    header = FileLook(body).jpeg
    assert header is not None
    for eighths in (1, 2, 4, 8):
        assert scaled_jpeg(body, header, "RGB", header.scaled_size(eighths)).shape == (
            *header.scaled_size(eighths),
            3,
        )


def test_a_lossless_frame_is_never_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """libjpeg would write the whole of it into memory for a part."""
    monkeypatch.setattr(simplejpeg, "decode_jpeg", None)
    body = lossless(512, 512, 1)
    header = FileLook(body).jpeg
    assert header is not None
    with pytest.raises(ValueError, match="lossless"):
        scaled_jpeg(body, header, "GRAY", (9, 9))


@pytest.mark.parametrize("seed", range(2))
def test_of_cut_and_holed_files_none_is_taken(seed: int) -> None:
    """Pillow takes the last two kinds. Holes of a few bytes can leave a file without a fault; of
    progressive ones libjpeg takes those closed just between two scans, and some with holes."""
    random = np.random.default_rng(seed)
    progressive = encoded(PHOTO, "JPEG", quality=85, progressive=True)
    for body in (*LARGE.values(), progressive):
        begin = body.index(b"\xff\xda") + 20
        for _ in range(25):
            cut = int(random.integers(begin, len(body) - 4000))
            hole = body[:cut] + body[cut + int(random.integers(500, 3000)) :]
            for made in (body[:cut], body[:cut] + b"\xff\xd9", hole):
                if body == progressive and made != body[:cut]:
                    continue
                verdict = examine(made)
                assert isinstance(verdict, Unusable), (cut, len(made))
                assert verdict.detail in ("truncated", "broken")


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(LARGE)), st.data())
def test_what_libjpeg_warns_of_is_never_taken(name: str, data: st.DataObject) -> None:
    """Flipped, lost and filled bytes anywhere: a thumbnail is one that libjpeg gives without a
    word."""
    body = bytearray(LARGE[name])
    places = st.integers(2, data.draw(st.sampled_from([700, len(body) - 1])))
    for place in data.draw(st.lists(places, max_size=3)):
        body[place] = data.draw(st.integers(0, 255))
    begin, size = data.draw(places), data.draw(st.sampled_from([0, 0, 1, 30, 1000]))
    body[begin : begin + size] = bytes(data.draw(st.sampled_from([0, size])))
    plane, fault = plane_of(bytes(body), 60)
    if plane is not None:
        assert fault is None
        theirs = simplejpeg.decode_jpeg(bytes(body), "GRAY", min_height=60, min_width=60)
        assert np.array_equal(plane, theirs[:, :, 0])


def test_a_header_that_lies_of_its_size_is_no_harm() -> None:
    body = bytearray(LARGE["quality 75"])
    at = body.index(b"\xff\xc0") + 5
    for height, width in ((480, 648), (488, 640), (9000, 9000), (1, 1), (65_535, 1300)):
        body[at : at + 4] = struct.pack(">HH", height, width)
        verdict = examine(bytes(body))
        assert isinstance(verdict, Unusable) or (verdict.width, verdict.height) == (width, height)
