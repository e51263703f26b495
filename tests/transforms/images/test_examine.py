"""Files of every kind, whole, damaged and hostile: what is said of each, and what it is seen by."""

import contextlib
import io
import struct
from concurrent.futures import ThreadPoolExecutor

import imagehash
import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from PIL import ImageFile, ImageOps

from alignset.transforms.images import decode, file_formats
from alignset.transforms.images import examine as images
from alignset.transforms.images import thumbnail as thumbnails
from alignset.transforms.images.decode import (
    displayed_picture,
    jpeg_pixels,
    open_picture,
    small_grey,
)
from alignset.transforms.images.examine import Image, Unusable, examine
from alignset.transforms.images.file_formats import FileLook
from alignset.transforms.images.perceptual_hash import picture_hash, thumbnail_hash
from alignset.transforms.images.thumbnail import SIDE_PX, thumbnail
from alignset.transforms.workers.limited_process import (
    ChildError,
    CostlyError,
    CrashError,
    RaisedError,
)
from tests.fuzz.pictures import exif as exif_bomb
from tests.fuzz.pictures import png_chunk
from tests.support.picture_files import (
    HEIGHT,
    WIDTH,
    encoded,
    good_files,
    oversized,
    photograph,
    png_that_says,
    turned,
)

GOOD = good_files()
NOT_PLAIN = {name for name in GOOD if name.startswith(("gif", "bmp", "avif"))} | {"png 16 bit grey"}
PHOTO = photograph(7, 640, 480)
LARGE = {
    "quality 1": encoded(PHOTO, "JPEG", quality=1),
    "quality 75": encoded(PHOTO, "JPEG", quality=75),
    "own tables": encoded(PHOTO, "JPEG", optimize=True, quality=90),
    "grey": encoded(PHOTO.convert("L"), "JPEG", quality=85),
    "progressive": encoded(PHOTO, "JPEG", quality=85, progressive=True),
}


def shown(body: bytes) -> PillowImage.Image:
    """The image as Pillow alone would show it: another way than the module's."""
    picture = ImageOps.exif_transpose(PillowImage.open(io.BytesIO(body)))
    if picture.mode == "I;16":
        picture = picture.point(lambda value: value / 256).convert("L")
    over = picture.convert("RGBA")
    white = PillowImage.new("RGBA", over.size, "white")
    return PillowImage.alpha_composite(white, over).convert("RGB")


def looked(body: bytes) -> Image:
    image = examine(body, keep_grey=True, keep_picture=True)
    assert isinstance(image, Image)
    return image


def distance(image: Image, reference: imagehash.ImageHash) -> int:
    return (image.phash ^ int(str(reference), 16)).bit_count()


def off_by(picture: PillowImage.Image, other: PillowImage.Image) -> float:
    """Grey levels between two images, on average, at the size of the first."""
    ours = np.asarray(picture.convert("RGB"), np.int32)
    return float(np.abs(ours - np.asarray(other.resize(picture.size, 4), np.int32)).mean())


@pytest.mark.parametrize("name", GOOD)
def test_every_kind_of_file(name: str) -> None:
    body, like = GOOD[name], GOOD["png"]
    image = looked(body)
    assert (image.format, image.width, image.height) == (name.split()[0], WIDTH, HEIGHT)
    assert image.plain == (name not in NOT_PLAIN)
    assert image.picture.mode in ("L", "RGB")
    assert off_by(image.picture, shown(body)) < 0.5  # two builds of libjpeg
    assert image.grey.shape == (HEIGHT, WIDTH)
    assert distance(image, imagehash.phash(shown(body))) == 0
    if "one bit" not in name:
        like = GOOD["png rgba"] if "rgba" in name or "transparent" in name or "la" in name else like
        assert distance(image, imagehash.phash(shown(like))) <= 6
    assert distance(image, imagehash.phash(photograph(1))) > 16
    plain = examine(body)  # the same, whatever is kept of it
    assert plain == image
    assert plain.grey is plain.picture is None
    assert examine(body, hashed=False).phash == 0
    with PillowImage.open(io.BytesIO(thumbnail(body))) as small:
        assert (small.format, small.mode, max(small.size)) == ("JPEG", "RGB", WIDTH)
        assert off_by(small, shown(body)) < 12
    if not name.startswith("avif"):  # what follows the end does no harm
        assert examine(body + b"\r\n<!-- served in 3 ms -->") == image


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_turns_what_is_seen_and_not_the_size(kind: str, orientation: int) -> None:
    stored, exif = turned(orientation)
    body = encoded(stored, kind, exif=exif, quality=90)
    image = looked(body)
    # libavif stores the turned size: orientation is a property of the AVIF image itself.
    assert (image.width, image.height) == stored.size
    assert distance(image, imagehash.phash(photograph())) <= 4
    assert image.picture.size == image.grey.shape[::-1] == (WIDTH, HEIGHT)
    assert displayed_picture(open_picture(body, image.format)).size == (WIDTH, HEIGHT)


@pytest.mark.parametrize(
    ("size", "seen"),
    [
        ((1, 1), (1, 1)),
        ((3, 7), (3, 7)),
        ((1, 500), (1, 500)),
        ((31, 33), (31, 33)),
        ((1000, 40), (1000, 40)),
        ((700, 447), (700, 447)),
        ((489, 700), (245, 350)),
        ((1000, 896), (250, 224)),
        ((1792, 1793), (224, 225)),
    ],
)
def test_a_jpeg_is_seen_at_the_smallest_scale_that_leaves_224_px(
    size: tuple[int, int], seen: tuple[int, int]
) -> None:
    picture = photograph(3, *size)
    for how in ({}, {"progressive": True}, {"subsampling": 0}):
        body = encoded(picture, "JPEG", quality=95, **how)
        image = looked(body)
        assert (image.width, image.height) == size
        assert image.picture.size == seen
        if min(size) > 8:
            assert distance(image, imagehash.phash(shown(body))) <= 4
            assert off_by(image.picture, shown(body)) < 6
    image = looked(encoded(picture, "PNG"))
    assert distance(image, imagehash.phash(picture)) == 0
    assert image.picture.size == size
    with PillowImage.open(io.BytesIO(thumbnail(body))) as small:
        assert max(small.size) == min(SIDE_PX, max(size))


@pytest.mark.parametrize(
    ("size", "small"),
    [
        ((1, 1), (1, 1)),
        ((255, 300), (255, 300)),
        ((256, 300), (128, 150)),
        ((2000, 700), (400, 140)),
        ((8191, 1), (8191, 1)),
        ((1, 8192), (1, 4096)),
        ((600, 80_000), (150, 8000)),
    ],
)
def test_a_small_grey_picture(size: tuple[int, int], small: tuple[int, int]) -> None:
    grey = small_grey(PillowImage.new("L", size, 76))
    assert (grey.dtype, grey.shape) == (np.uint8, small[::-1])
    assert set(grey.ravel().tolist()) == {76}


@pytest.mark.numeric
@pytest.mark.parametrize("size", [(80, 60), (61, 83), (240, 96), (32, 32), (31, 40), (1, 5)])
def test_the_hash_of_a_thumbnail_is_imagehashes(size: tuple[int, int]) -> None:
    greys = [photograph(seed, *size).convert("L") for seed in range(25)]
    assert format(picture_hash(greys[3]), "016x") == str(imagehash.phash(greys[3]))
    far = [(thumbnail_hash(np.asarray(g)) ^ picture_hash(g)).bit_count() for g in greys]
    assert np.mean(far) < 0.2
    assert max(far) <= 4
    for value in (0, 1, 77, 255):  # no bit is told by rounding, which is another on other machines
        assert thumbnail_hash(np.full(size, value, np.uint8)) == (1 << 63 if value else 0)


# Damage


@pytest.mark.parametrize("name", GOOD)
def test_a_cut_file_is_never_a_picture(name: str) -> None:
    body = GOOD[name]
    lengths = {*range(0, len(body), max(1, len(body) // 30)), *range(len(body) - 20, len(body))}
    if name.startswith("bmp"):  # with the padding of the last row no pixels are lost
        lengths -= set(range(len(body) - 4, len(body)))
    for length in sorted(lengths):
        verdict = examine(body[:length])
        assert isinstance(verdict, Unusable), length
        assert verdict.reason == ("undecodable" if length > 40 else verdict.reason)
    if name in ("jpeg", "jpeg progressive", "png", "webp", "gif", "bmp"):
        for part in (0.7, 0.99):
            verdict = examine(body[: int(len(body) * part)])
            assert verdict == Unusable("undecodable", "truncated", WIDTH, HEIGHT)


@pytest.mark.parametrize("seed", range(2))
def test_of_cut_and_holed_jpegs_none_is_taken(seed: int) -> None:
    """Pillow takes the last two kinds. Holes of a few bytes can leave a file without a fault; of
    progressive ones libjpeg takes those closed just between two scans, and some with holes."""
    random = np.random.default_rng(seed)
    for name, body in LARGE.items():
        begin = body.index(b"\xff\xda") + 20
        for _ in range(25):
            cut = int(random.integers(begin, len(body) - 4000))
            hole = body[:cut] + body[cut + int(random.integers(500, 3000)) :]
            for made in (body[:cut], body[:cut] + b"\xff\xd9", hole):
                if name == "progressive" and made != body[:cut]:
                    continue
                verdict = examine(made)
                assert isinstance(verdict, Unusable), (cut, len(made))
                assert verdict.detail in ("truncated", "broken")


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(LARGE)), st.data())
def test_what_libjpeg_warns_of_is_never_taken(name: str, data: st.DataObject) -> None:
    """Flipped, lost and filled bytes anywhere: a usual JPEG is one that libjpeg gives without a
    word, at any scale."""
    body = bytearray(LARGE[name])
    places = st.integers(2, data.draw(st.sampled_from([700, len(body) - 1])))
    for place in data.draw(st.lists(places, max_size=3)):
        body[place] = data.draw(st.integers(0, 255))
    begin, size = data.draw(places), data.draw(st.sampled_from([0, 0, 1, 30, 1000]))
    body[begin : begin + size] = bytes(data.draw(st.sampled_from([0, size])))
    header = FileLook(bytes(body)).jpeg
    fits = header and not header.error and header.width * header.height < 10**7
    if fits and isinstance(jpeg_pixels(bytes(body), header), np.ndarray):
        simplejpeg.decode_jpeg(bytes(body), "GRAY", min_height=60, min_width=60)


def test_headers_that_lie_of_their_size() -> None:
    body = bytearray(LARGE["quality 75"])
    at = body.index(b"\xff\xc0") + 5
    for height, width in ((480, 648), (488, 640), (9000, 9000), (1, 1), (65_535, 1300)):
        body[at : at + 4] = struct.pack(">HH", height, width)
        verdict = examine(bytes(body))
        assert isinstance(verdict, Unusable) or (verdict.width, verdict.height) == (width, height)
    verdict = examine(png_that_says(WIDTH, HEIGHT + 1))
    assert verdict == Unusable("undecodable", "truncated", WIDTH, HEIGHT + 1)
    # Pillow leaves rows that are missing black, so black rows have to be looked at twice.
    assert isinstance(examine(encoded(PillowImage.new("RGB", (60, 50)), "PNG")), Image)


# Hostile files


@pytest.mark.parametrize("name", GOOD)
def test_the_limits_of_pixels(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = Unusable("undecodable", "too_many_pixels", WIDTH, HEIGHT)
    for limit, value in (("MAX_PIXELS", WIDTH * HEIGHT), ("MAX_SIDE", WIDTH)):
        with monkeypatch.context() as patched:
            patched.setattr(file_formats, limit, value)
            assert isinstance(examine(GOOD[name]), Image)
            patched.setattr(file_formats, limit, value - 1)
            patched.setattr(images, "decoded", None)  # before any decode
            assert examine(GOOD[name]) == refused


@pytest.mark.parametrize("name", oversized())
def test_an_oversized_header_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "decoded", None)
    verdict = examine(oversized()[name])
    assert isinstance(verdict, Unusable)
    assert (verdict.reason, verdict.detail) == ("undecodable", "too_many_pixels")


def test_comments_of_a_gif_are_not_given_to_pillow() -> None:
    """Which joins them in quadratic time: an hour for 20 MB."""
    body = GOOD["gif transparent"]
    header = 13 + 3 * 256
    comments = b"!\xfe" + b"\x01a" * 50_000 + b"\0" + b"!\xfe\x01a\0" * 50_000
    animation = b"!\xff\x0bNETSCAPE2.0\3\1\0\0\0"
    commented = body[:header] + comments + animation + body[header:]
    assert open_picture(commented, "gif").info.get("comment") is None
    assert examine(commented) == examine(body)
    for cut in range(header, header + 3000, 7):
        assert isinstance(examine(commented[:cut]), Unusable)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_exif_that_refers_to_the_same_bytes_again_and_again(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow would copy them for each of its values: 64 KiB took 350 MiB, 1 MiB takes all there
    is."""
    exif = exif_bomb(60_000, 4000)
    if kind == "PNG":
        body = GOOD["png"][:33] + png_chunk(b"eXIf", exif) + GOOD["png"][33:]
    else:  # Pillow would not write these
        honest = (b"MM\0*\0\0\0\x08" + bytes(6)).ljust(len(exif), b"Q")
        body = encoded(photograph(), kind, exif=b"Exif\0\0" + honest).replace(honest, exif)
        assert exif in body
    copied, read = [], ImageFile._safe_read
    monkeypatch.setattr(
        ImageFile, "_safe_read", lambda fp, size: copied.append(size) or read(fp, size)
    )
    if isinstance(said := examine(body), Image):
        assert (said.width, said.height) == (WIDTH, HEIGHT)
        with contextlib.suppress(ValueError):
            PillowImage.open(io.BytesIO(body)).getexif()
    assert sum(copied) < 30 * len(body)


def test_honest_exif_is_read_whatever_its_values_and_a_broken_one_does_no_harm() -> None:
    """Some values of a camera are long, and damaged values claim more than there is."""
    for size, entries in ((2000, 3), (70, 1), (60_000, 3)):
        exif = PillowImage.Exif()
        exif.load(exif_bomb(size, entries))
        assert len(dict(exif)) == entries
    for broken in (b"Exif\0\0nonsense", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"\0"):
        assert isinstance(examine(encoded(photograph(), "JPEG", exif=broken)), Image)


# What is not a fault of the file


def test_whatever_our_code_raises_is_a_reason_of_the_image(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise OverflowError("too large for an int64")

    monkeypatch.setattr(images, "jpeg_hash", fail)
    for _ in range(3):
        assert examine(GOOD["jpeg"]) == Unusable("undecodable", "unexpected")
    assert len(caplog.messages) == 1  # once a kind
    assert "OverflowError" in caplog.messages[0]


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (CostlyError(), "too_costly"),
        (CrashError("Aborted"), "crashed_decoder"),
        (RaisedError("OSError", "image file is truncated"), "truncated"),
        (RaisedError("EOFError", ""), "truncated"),
        (RaisedError("SyntaxError", "bad header"), "broken"),
        (ChildError("no child process can be started"), None),
    ],
)
@pytest.mark.parametrize("name", ["webp", "avif", "bmp"])
def test_what_ends_a_decode_in_a_child_process_is_a_detail(
    name: str, error: BaseException, detail: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_it(*_: object) -> None:
        raise error

    monkeypatch.setattr(decode, "call_limited", raise_it)
    if detail is None:  # not the image's fault
        with pytest.raises(ChildError):
            examine(GOOD[name])
    else:
        assert examine(GOOD[name]) == Unusable("undecodable", detail, WIDTH, HEIGHT)
    assert isinstance(examine(GOOD["png"]), Image)


def test_a_large_image_keeps_its_turn_until_it_is_small(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(decode, "MANY_PIXELS", 0)
    shrink = thumbnails.small_picture

    def shrunk(image: Image, side_px: int) -> PillowImage.Image:
        with ThreadPoolExecutor(1) as other:
            assert not other.submit(decode.MANY.acquire, blocking=False).result()
        return shrink(image, side_px)

    monkeypatch.setattr(thumbnails, "small_picture", shrunk)
    file = io.BytesIO()
    PillowImage.new("RGB", (9, 9)).save(file, "PNG")
    assert thumbnail(file.getvalue())


def test_limits_grow_with_the_pixels_that_the_header_says(monkeypatch: pytest.MonkeyPatch) -> None:
    large = encoded(PillowImage.new("RGB", (4000, 4000)), "BMP")
    monkeypatch.setattr(decode, "MAX_MEMORY", 1 << 26)
    with pytest.raises(CostlyError):
        decode.decoded_picture(large, "bmp", 4000 * 4000)
    monkeypatch.undo()
    assert decode.decoded_picture(large, "bmp", 4000 * 4000).size == (4000, 4000)
