"""JPEGs: the header as Pillow reads it, and a small plane equal to libjpeg's or none at all."""

import dataclasses
import io
import struct
import subprocess
import sys

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from alignset.transforms.images import jpeg_dc
from alignset.transforms.images.examine import Image, Unusable, examine, examine_all
from alignset.transforms.images.jpeg_dc import dc_planes
from alignset.transforms.images.jpeg_header import (
    MAX_SCANS,
    JpegHeader,
    grey_plane,
    has_too_many_scans,
    jpeg_header,
)
from alignset.transforms.images.jpeg_segments import jpeg_segments
from alignset.transforms.images.perceptual_hash import picture_hash
from tests.support.picture_files import encoded, good_files, photograph
from tests.support.root import ROOT


def dc_plane(body: bytes) -> np.ndarray | None:
    return dc_planes([body])[0]


PHOTO = photograph(7, 640, 480)
KINDS = {
    **{f"quality {q}": {"quality": q} for q in (1, 30, 75, 100)},
    **{f"subsampling {n}": {"subsampling": n} for n in (0, 1, 2)},
}
OWN_TABLES = encoded(PHOTO, "JPEG", optimize=True, quality=90)
LARGE = {name: encoded(PHOTO, "JPEG", **options) for name, options in KINDS.items()}
LARGE["grey"] = encoded(PHOTO.convert("L"), "JPEG", quality=85)
SIZES = [(640, 480), (481, 487), (489, 700), (1, 1), (7, 9), (16, 17), (2000, 481)]


def by_libjpeg(body: bytes) -> np.ndarray | None:
    """An eighth a side, of a file without any fault; else None."""
    try:
        height, width = simplejpeg.decode_jpeg_header(body)[:2]
        small = {"min_height": -(-height // 8), "min_width": -(-width // 8)}
        return simplejpeg.decode_jpeg(body, "GRAY", **small)[:, :, 0]
    except ValueError:
        return None


PLANES = {name: by_libjpeg(body) for name, body in LARGE.items()}


@pytest.mark.parametrize("name", LARGE)
def test_the_plane_is_libjpegs(name: str) -> None:
    plane = dc_plane(LARGE[name])
    assert plane is not None
    assert (plane == PLANES[name]).all()


def test_tables_that_are_not_the_standards_are_left_to_libjpeg() -> None:
    assert dc_planes([OWN_TABLES] * 2) == [None, None]


# Each file in a process of its own that has seen none: a fork of one that has imported all.
LOOK = """
import os, sys
from alignset.transforms.images.examine import examine_all
for path in sys.argv[1:]:
    if os.fork() == 0:
        with open(path, "rb") as file:
            print(examine_all([file.read()])[0], flush=True)
        os._exit(0)
    os.wait()
"""
SEEN = {"own tables": OWN_TABLES, **LARGE}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What is said of each in a new process."""
    folder = tmp_path_factory.mktemp("seen")
    for name, body in SEEN.items():
        (folder / name).write_bytes(body)
    command = [sys.executable, "-c", LOOK, *(str(folder / name) for name in SEEN)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return dict(zip(SEEN, done.stdout.splitlines(), strict=True))


@pytest.mark.parametrize("name", SEEN)
def test_what_was_seen_before_does_not_matter(name: str, alone: dict[str, str]) -> None:
    """In a new process, alone, beside others, again: one verdict."""
    body = SEEN[name]
    verdicts = {str(verdict) for verdict in (*examine_all([body] * 3), examine(body))}
    pairs = (examine_all([body, other]) for other in SEEN.values())
    assert verdicts | {str(verdict[0]) for verdict in pairs} == {alone[name]}


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
    monkeypatch.setattr(jpeg_dc, "MOST_SAMPLES", 60 * 80)
    assert dc_plane(LARGE["grey"]) is not None
    monkeypatch.setattr(jpeg_dc, "MOST_SAMPLES", 60 * 80 - 1)
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
    name = data.draw(st.sampled_from(sorted(LARGE)))
    plane, plane_of_whole = dc_planes([bytes(body), LARGE[name]])
    assert np.array_equal(plane_of_whole, PLANES[name])  # whatever stands beside it
    if plane is not None:
        assert np.array_equal(plane, by_libjpeg(bytes(body)))


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
    known = examine(LARGE["quality 75"])
    for body in (LARGE["quality 75"], OWN_TABLES, LARGE["grey"], progressive):
        begin = body.index(b"\xff\xda") + 20
        for _ in range(25):
            cut = int(random.integers(begin, len(body) - 4000))
            hole = body[:cut] + body[cut + int(random.integers(500, 3000)) :]
            for made in (body[:cut], body[:cut] + b"\xff\xd9", hole):
                if body == progressive and made != body[:cut]:
                    continue
                verdict, whole = examine_all([made, LARGE["quality 75"]])
                assert isinstance(verdict, Unusable), (cut, len(made))
                assert verdict.detail in ("truncated", "broken")
                assert whole == known


@pytest.mark.parametrize("name", [name for name in good_files() if name.startswith("jpeg")])
def test_headers(name: str) -> None:
    body = good_files()[name]
    picture = PillowImage.open(io.BytesIO(body))
    header = jpeg_header(body)
    assert header is not None
    assert (header.width, header.height) == picture.size
    assert header.components == len(picture.getbands())
    assert (header.frame == 0xC2) == ("progressive" in name)
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
    """So Pillow never gets it, which joins EXIF in quadratic time."""
    for piece in (b"\xff\xe0\0\2", b"\xff\xe1\0\x08Exif\0\0", b"\xff\xd0", b"\0\xff\0"):
        body = b"\xff\xd8" + piece * 100_000 + LARGE["grey"][2:]
        assert len(jpeg_segments(body).each) <= 1000
        assert jpeg_header(body) is None
        looked = examine(body)
        assert isinstance(looked, Unusable)
        broken = body.startswith(b"\xff\xd8\xff")  # else it is no JPEG at all
        assert looked.detail == ("broken" if broken else "unknown")
    filled = b"\xff\xd8" + b"\xff" * 100_000 + LARGE["grey"][2:]
    assert jpeg_segments(filled).scan > 100_000


def test_nothing_behind_the_end_is_of_the_image() -> None:
    decoy = b"\xff\xd8\xff\xd9" + LARGE["grey"][2:]
    assert jpeg_segments(decoy).scan == -1
    assert jpeg_header(decoy) is None
    assert isinstance(examine(decoy), Unusable)


def test_scans_are_counted_where_there_may_be_many() -> None:
    many = b"\xff\xda" * (MAX_SCANS + 1)
    header = JpegHeader(9, 9, 0xC2, 1, 0, False, True)
    assert has_too_many_scans(many, header)
    assert not has_too_many_scans(many[2:], header)
    assert not has_too_many_scans(many, dataclasses.replace(header, frame=0xC0))
    large = dataclasses.replace(header, width=9000, height=9000)
    assert has_too_many_scans(many[:50], large)
    assert not has_too_many_scans(many[:40], large)


def test_a_header_that_lies_of_its_size_is_no_harm() -> None:
    body = bytearray(LARGE["quality 75"])
    at = body.index(b"\xff\xc0") + 5
    for height, width in ((480, 648), (488, 640), (9000, 9000), (1, 1), (65_535, 1300)):
        body[at : at + 4] = struct.pack(">HH", height, width)
        plane = dc_plane(bytes(body))
        assert plane is None or (plane == by_libjpeg(bytes(body))).all()


def with_decoy(marker: int) -> bytes:
    """A file with another in its comments, where one looks who gives this marker a length."""
    decoy, body = encoded(photograph(99, 640, 480), "JPEG", quality=50), LARGE["quality 75"]
    alone = bytes((0xFF, marker))  # "ff fe" behind it, taken for a length, leads to `other`
    first = b"\xff\xfe" + struct.pack(">H", 60_000) + bytes(59_998)
    filling = bytes(2 + 0xFFFE - 2 - len(first) - 4)
    hidden = filling + decoy[2:]
    second = b"\xff\xfe" + struct.pack(">H", len(hidden) + 2) + hidden
    return body[:2] + alone + first + second + body[2:]


def split(body: bytes) -> tuple[bytes, bytes]:
    """A header's segments, and all from the scan's own on."""
    scan = jpeg_header(body).scan
    return body[2:scan], body[scan:]


def altered(name: str) -> bytes:
    """A file in whose header a decoder that takes it for usual would see another picture, or one
    that others refuse."""
    head, scan = split(LARGE["quality 75"])
    at = {marker: head.index(bytes((0xFF, marker))) for marker in (0xDB, 0xC0, 0xC4)}
    dqt, sof = head[at[0xDB] : at[0xDB] + 69], head[at[0xC0] : at[0xC4]]
    return (
        b"\xff\xd8"
        + {
            "RST0": b"\xff\xd0" + head + scan,
            "TEM": b"\xff\x01" + head + scan,
            "fill bytes": head + b"\xff" + scan,
            "junk": head + b"\0" + scan,
            "two frames": head + sof + scan,
            "second SOI": head + b"\xff\xd8" + scan,
            "reserved marker": head + b"\xff\x02\0\2" + scan,
            "short DRI": head + b"\xff\xdd\0\3\0" + scan,
            "restarts": head + b"\xff\xdd\0\4\0\1" + scan,
            "table split over segments": head.replace(
                dqt, dqt[:3] + b"\x20" + dqt[4:34] + b"\xff\xdb\0\x25" + dqt[34:]
            )
            + scan,
            "table of number 4": head.replace(dqt, dqt[:4] + b"\4" + dqt[5:]) + dqt + scan,
            "precision 7": head.replace(dqt, dqt[:4] + b"\x70" + dqt[5:]) + scan,
            "precision 15": head + dqt[:4] + b"\xf1" + dqt[5:] + scan,
            "twelve blocks a unit": head.replace(sof, sof[:11] + b"\x22\0\2\x22\1\3\x22\1") + scan,
            "extended": head.replace(b"\xff\xc0", b"\xff\xc1") + scan,
            "65 segments": b"\xff\xfe\0\2" * 61 + head + scan,
            "64 KiB": b"\xff\xfe\xff\xff" + bytes(0xFFFD) + head + scan,
            "spectral selection": head + scan.replace(b"\0\x3f\0", b"\0\x3e\0", 1),
            "components swapped": head + scan[:5] + scan[7:9] + scan[5:7] + scan[9:],
        }[name]
    )


ALTERED = (
    *("RST0", "TEM", "fill bytes", "junk", "two frames", "second SOI"),
    *("reserved marker", "short DRI", "restarts", "table split over segments"),
    *("table of number 4", "precision 7", "precision 15", "twelve blocks a unit", "extended"),
    *("65 segments", "64 KiB", "spectral selection", "components swapped"),
)


@pytest.mark.parametrize("name", ALTERED)
def test_a_header_that_is_not_known_whole_goes_to_libjpeg(name: str) -> None:
    body = altered(name)
    assert dc_plane(body) is None
    verdict = examine_all([body, LARGE["grey"]])[0]
    assert verdict == examine(body)
    if isinstance(verdict, Image):  # what viewers show
        shown = PillowImage.open(io.BytesIO(body))
        assert (verdict.width, verdict.height) == shown.size
        assert (verdict.phash ^ picture_hash(shown)).bit_count() <= 6
    else:
        assert by_libjpeg(body) is None or not opens(body)


def opens(body: bytes) -> bool:
    try:
        PillowImage.open(io.BytesIO(body)).load()
    except (OSError, SyntaxError):
        return False
    return True


@pytest.mark.parametrize("marker", [0xD0, 0xD7, 0x01])
def test_a_decoy_is_not_hashed(marker: int) -> None:
    body = with_decoy(marker)
    verdict = examine_all([body, body])[0]
    assert isinstance(verdict, Unusable) or verdict.phash == examine(LARGE["quality 75"]).phash


@pytest.mark.parametrize("name", ["64 KiB", "65 segments", "RST0", "fill bytes"])
def test_odd_headers_that_decoders_read_are_pictures(name: str) -> None:
    assert isinstance(examine(altered(name)), Image)
