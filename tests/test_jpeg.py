"""JPEGs: the header as Pillow reads it, and a small plane equal to libjpeg's or none at all."""

import io
import struct

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from tests.picture_files import encoded, good_files, photograph
from transforms import jpeg_dc
from transforms.images import Unusable, examine, examine_all
from transforms.jpeg import (
    _HARMLESS,
    MAX_SCANS,
    JpegHeader,
    grey_plane,
    has_too_many_scans,
    jpeg_header,
)
from transforms.jpeg_dc import dc_planes


def dc_plane(body: bytes) -> np.ndarray | None:
    """Of a file whose tables were met before."""
    dc_planes([body])
    return dc_planes([body])[0]


PHOTO = photograph(7, 640, 480)
KINDS = {
    **{f"quality {q}": {"quality": q} for q in (1, 30, 75, 100)},
    **{f"subsampling {n}": {"subsampling": n} for n in (0, 1, 2)},
    "own tables": {"optimize": True, "quality": 90},
}
LARGE = {name: encoded(PHOTO, "JPEG", **options) for name, options in KINDS.items()}
LARGE["grey"] = encoded(PHOTO.convert("L"), "JPEG", quality=85)
SIZES = [(640, 480), (481, 487), (489, 700), (1, 1), (7, 9), (16, 17), (2000, 481)]


def by_libjpeg(body: bytes) -> np.ndarray | None:
    """An eighth a side, of a file without any fault; else None."""
    return by_libjpeg_or_why(body)[0]


def by_libjpeg_or_why(body: bytes) -> tuple[np.ndarray | None, str]:
    try:
        height, width = simplejpeg.decode_jpeg_header(body)[:2]
        small = {"min_height": -(-height // 8), "min_width": -(-width // 8)}
        return simplejpeg.decode_jpeg(body, "GRAY", **small)[:, :, 0], ""
    except ValueError as error:
        return None, str(error)


@pytest.mark.parametrize("name", LARGE)
def test_the_plane_is_libjpegs(name: str) -> None:
    plane = dc_plane(LARGE[name])
    assert plane is not None
    assert (plane == by_libjpeg(LARGE[name])).all()


def test_tables_met_for_the_first_time_are_left_to_libjpeg() -> None:
    body = encoded(photograph(99, 480, 490), "JPEG", optimize=True)
    assert dc_planes([body]) == [None]
    assert dc_planes([body])[0] is not None


def test_two_are_decoded_by_turns_whatever_they_are() -> None:
    """Of several sizes, layouts and tables, with cut ones and what is no JPEG among them."""
    small = [encoded(photograph(5, *size), "JPEG") for size in SIZES]
    cut = LARGE["quality 75"][: len(LARGE["quality 75"]) // 2]
    bodies = [*LARGE.values(), *small, b"", b"\xff\xd8\xff", cut, cut + b"\xff\xd9"]
    alone = [dc_plane(body) for body in bodies]
    assert sum(plane is None for plane in alone) == 4
    random = np.random.default_rng(0)
    for _ in range(40):
        order = random.permutation(len(bodies))[: random.integers(1, 8)]
        for n, plane in zip(order, dc_planes([bodies[n] for n in order]), strict=True):
            assert np.array_equal(plane, alone[n])


def test_samples_beyond_libjpegs_clamp_are_left_to_it() -> None:
    body = bytearray(LARGE["grey"])
    body[body.index(b"\xff\xdb") + 5] = 255  # what the first coefficients are multiplied by
    assert dc_plane(bytes(body)) is None


def test_planes_that_would_be_too_large_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg_dc, "_MOST_SAMPLES", 60 * 80)
    assert dc_plane(LARGE["grey"]) is not None
    monkeypatch.setattr(jpeg_dc, "_MOST_SAMPLES", 60 * 80 - 1)
    assert dc_plane(LARGE["grey"]) is None


def test_planes_that_would_be_too_small_are_none() -> None:
    assert dc_planes([LARGE["grey"]], 60)[0].shape == (60, 80)
    assert dc_planes([LARGE["grey"]], 61) == [None]
    assert dc_planes([b""], 60) == [None]
    assert dc_planes([]) == []


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_of_any_size(size: tuple[int, int], subsampling: int) -> None:
    body = encoded(photograph(3, *size), "JPEG", subsampling=subsampling)
    plane = dc_plane(body)
    assert plane is not None
    assert plane.shape == (-(-size[1] // 8), -(-size[0] // 8))
    if min(size) > 8:  # libjpeg has no plane of one sample a side
        assert (plane == by_libjpeg(body)).all()


def test_flat_and_noisy_pictures() -> None:
    random = np.random.default_rng(0)
    noise = PillowImage.fromarray(random.integers(0, 256, (480, 496, 3), np.uint8))
    for picture in (
        noise,
        PillowImage.new("RGB", (480, 496), "white"),
        PillowImage.new("L", (480, 490)),
    ):
        for quality in (5, 95, 100):
            body = encoded(picture, "JPEG", quality=quality)
            plane = dc_plane(body)
            assert plane is not None
            assert (plane == by_libjpeg(body)).all()


@pytest.mark.parametrize("name", ["jpeg progressive", "jpeg cmyk", "jpeg 4:4:4 restarts"])
def test_unusual_kinds_are_left_to_libjpeg(name: str) -> None:
    assert dc_plane(good_files()[name]) is None


@settings(max_examples=600)
@given(st.sampled_from(sorted(LARGE)), st.data())
def test_what_libjpeg_warns_of_is_never_taken(name: str, data: st.DataObject) -> None:
    """Flipped, lost and filled bytes anywhere: a plane is libjpeg's, of a file it finds whole."""
    body = bytearray(LARGE[name])
    places = st.integers(2, data.draw(st.sampled_from([700, len(body) - 1])))
    for place in data.draw(st.lists(places, max_size=3)):
        body[place] = data.draw(st.integers(0, 255))
    begin = data.draw(places)
    size = data.draw(st.sampled_from([0, 0, 1, 30, 1000]))
    body[begin : begin + size] = bytes(data.draw(st.sampled_from([0, size])))
    if data.draw(st.booleans()):
        body = body[: data.draw(places)] + b"\xff\xd9"
    whole = LARGE[data.draw(st.sampled_from(sorted(LARGE)))]
    dc_planes([bytes(body), whole])
    plane, other = dc_planes([bytes(body), whole])
    assert np.array_equal(other, by_libjpeg(whole))  # whatever stands beside it
    theirs, why = by_libjpeg_or_why(bytes(body))
    if plane is not None and theirs is not None:
        assert (plane == theirs).all()
    elif plane is not None:  # it may only be the header that libjpeg has something against
        assert _HARMLESS.search(why) or "subsampling" in why, why


@given(st.binary(max_size=300))
def test_any_bytes(body: bytes) -> None:
    assert dc_plane(b"\xff\xd8" + body) is None
    jpeg_header(b"\xff\xd8" + body)


@pytest.mark.parametrize("seed", range(4))
def test_of_cut_and_holed_files_none_is_taken(seed: int) -> None:
    """Pillow takes the last two kinds. Holes of a few bytes can leave a file without a fault; of
    progressive ones libjpeg takes those closed just between two scans, and some with holes."""
    random = np.random.default_rng(seed)
    progressive = encoded(PHOTO, "JPEG", quality=85, progressive=True)
    for body in (LARGE["quality 75"], LARGE["own tables"], LARGE["grey"], progressive):
        begin = body.index(b"\xff\xda") + 20
        for _ in range(25):
            cut = int(random.integers(begin, len(body) - 4000))
            hole = body[:cut] + body[cut + int(random.integers(500, 3000)) :]
            for made in (body[:cut], body[:cut] + b"\xff\xd9", hole):
                if body == progressive and made != body[:cut]:
                    continue
                found, whole = examine_all([made, LARGE["quality 75"]])
                assert isinstance(found, Unusable), (cut, len(made))
                assert found.detail in ("truncated", "broken")
                assert whole == examine(LARGE["quality 75"])


@pytest.mark.parametrize("name", [name for name in good_files() if name.startswith("jpeg")])
def test_headers(name: str) -> None:
    body = good_files()[name]
    picture = PillowImage.open(io.BytesIO(body))
    header = jpeg_header(body)
    assert header is not None
    assert (header.width, header.height) == picture.size
    assert header.components == len(picture.getbands())
    assert header.progressive == ("progressive" in name)
    assert body[header.scan : header.scan + 2] == b"\xff\xda"
    assert not header.annotated


def test_annotations_and_junk_between_segments() -> None:
    body = encoded(PHOTO, "JPEG", exif=b"Exif\0\0MM\0*")
    assert jpeg_header(body).annotated
    junk = body[:20] + b"junk" + body[20:]  # behind the first segment
    assert jpeg_header(junk) is not None
    plane, fault = grey_plane(junk, jpeg_header(junk), 60)
    assert (plane, fault) == (None, None)  # another decoder looks at it
    assert not isinstance(examine(junk), Unusable)


@pytest.mark.parametrize(
    "body", [b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\xff\xda\0\0", b"\xff\xd8" * 99]
)
def test_no_header(body: bytes) -> None:
    assert jpeg_header(body) is None


def test_an_endless_header_is_none_soon() -> None:
    assert jpeg_header(b"\xff\xd8" + b"\xff\xe0\0\2" * 1_000_000) is None


def test_scans_are_counted_where_there_may_be_many() -> None:
    many = b"\xff\xda" * (MAX_SCANS + 1)
    header = JpegHeader(9, 9, 1, True, 0, False)
    assert has_too_many_scans(many, header)
    assert not has_too_many_scans(many[2:], header)
    assert not has_too_many_scans(many, JpegHeader(9, 9, 1, False, 0, False))


def test_a_header_that_lies_of_its_size_is_no_harm() -> None:
    body = bytearray(LARGE["quality 75"])
    at = body.index(b"\xff\xc0") + 5
    for height, width in ((480, 648), (488, 640), (9000, 9000), (1, 1), (65_535, 1300)):
        body[at : at + 4] = struct.pack(">HH", height, width)
        found = dc_plane(bytes(body))
        assert found is None or (found == by_libjpeg(bytes(body))).all()
