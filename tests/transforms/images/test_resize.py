import dataclasses
import io
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from random import Random

import numpy as np
import pytest
from PIL import Image as PillowImage

from alignset.transforms.images import resize
from alignset.transforms.images.examine import Image, examine
from alignset.transforms.images.resize import Encoder, plain_form
from alignset.transforms.images.resize_settings import EncodingError, ResizeSettings
from tests.support.picture_files import (
    HEIGHT,
    WIDTH,
    encoded,
    good_files,
    photograph,
    transparent,
    turned,
)

GOOD = good_files()
ORIGINAL = Encoder(ResizeSettings())
MODES = ["no", "border", "keep_ratio", "keep_ratio_largest", "center_crop"]
LOSSLESS = ResizeSettings(resize_mode="no", encode_format="png", encode_quality=1)


def shown(body: bytes) -> np.ndarray:
    """float[height, width, 3]: the stored image as a trainer reads it."""
    return np.asarray(PillowImage.open(io.BytesIO(body)).convert("RGB")).astype(float)


def expected(name: str) -> np.ndarray:
    """What a viewer shows of one of `GOOD`."""
    picture = photograph()
    if any(word in name for word in ("rgba", "transparent", "la")):
        over = transparent()
        picture = PillowImage.new("RGB", over.size, "white")
        picture.paste(over, mask=over.getchannel("A"))
    if any(word in name for word in ("grey", "la", "run length")):
        picture = picture.convert("L")
    if "one bit" in name:
        picture = picture.convert("1")
    return np.asarray(picture.convert("RGB")).astype(float)


def sized(body: bytes) -> Image:
    image = examine(body)
    assert isinstance(image, Image)
    return image


@pytest.mark.parametrize("name", GOOD)
def test_every_kind_of_file_is_kept_or_becomes_a_png_that_shows_the_same(name: str) -> None:
    image = sized(GOOD[name])
    body, extension, width, height = ORIGINAL(GOOD[name], image)
    assert (width, height) == (WIDTH, HEIGHT)
    assert extension == "jpg"
    if image.plain:
        assert body == GOOD[name]
    else:
        # A wrong image is off by 30 or more.
        assert np.abs(shown(body) - expected(name)).mean() < 5
        assert sized(body) == dataclasses.replace(image, format="png", plain=True)
        assert ORIGINAL(GOOD[name], image)[0] == body
    for exact in (False, True):
        how = dataclasses.replace(LOSSLESS, exact_resize=exact)
        body, extension, width, height = Encoder(how)(GOOD[name], image)
        assert (extension, width, height) == ("png", WIDTH, HEIGHT)
        assert PillowImage.open(io.BytesIO(body)).mode in ("L", "RGB")
        assert np.abs(shown(body) - expected(name)).mean() < 5


@pytest.mark.parametrize("name", GOOD)
def test_what_is_seen_at_a_look_becomes_the_same_png(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the encoder makes of the file later on, which a larger image, or one whose PNG cannot be
    written, is left to; a plain file stays itself."""
    image = examine(GOOD[name], keep_picture=True)
    assert isinstance(image, Image)
    body, kept = plain_form(GOOD[name], image)
    assert kept.grey is kept.picture is None
    assert ORIGINAL(body, kept) == ORIGINAL(GOOD[name], sized(GOOD[name]))
    assert (body == GOOD[name]) == image.plain
    with monkeypatch.context() as patched:
        patched.setattr(resize, "MOST_PIXELS", WIDTH * HEIGHT - 1)
        assert plain_form(GOOD[name], image) == (GOOD[name], image)

    def failing(*_: object) -> bytes:
        raise MemoryError("no room")

    monkeypatch.setattr(resize, "png_of", failing)
    assert plain_form(GOOD[name], image) == (GOOD[name], image)


def test_what_becomes_a_png_carries_its_colour_profile_and_no_other_metadata() -> None:
    exif = PillowImage.Exif()
    exif[0x0132] = "2026:01:01 00:00:00"
    body = encoded(photograph(), "AVIF", exif=exif, icc_profile=b"a colour profile")
    png = PillowImage.open(io.BytesIO(ORIGINAL(body, sized(body))[0]))
    assert png.info == {"icc_profile": b"a colour profile"}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_img2dataset_gets_upright_pictures(kind: str) -> None:
    stored, exif = turned(6)
    body = encoded(stored, kind, exif=exif, quality=95)
    how = ORIGINAL if kind == "AVIF" else Encoder(LOSSLESS)  # which becomes a PNG
    upright, _, width, height = how(body, sized(body))
    assert (width, height) == (WIDTH, HEIGHT)
    # A wrong image is off by 30 or more.
    assert np.abs(shown(upright) - shown(encoded(photograph(), "PNG"))).mean() < 5


@pytest.mark.parametrize("depth_16", ["RGB", "L"])
def test_sixteen_bit_pngs_are_stored_with_eight(depth_16: str) -> None:
    import cv2

    pixels = np.asarray(photograph().convert(depth_16)).astype(np.uint16) * 257
    body = cv2.imencode(".png", pixels if depth_16 == "L" else pixels[..., ::-1])[1].tobytes()
    stored = Encoder(LOSSLESS)(body, sized(body))[0]
    assert stored[24] == 8
    assert np.abs(shown(stored) - pixels.reshape(HEIGHT, WIDTH, -1) // 257).max() <= 1


@pytest.mark.parametrize("mode", MODES)
def test_exactly_what_img2dataset_gives_where_that_is_asked_for(mode: str) -> None:
    from img2dataset.resizer import Resizer

    encode_format, quality = {"border": ("png", 6), "no": ("webp", 80)}.get(mode, ("jpg", 90))
    how = ResizeSettings(mode, 64, encode_format, quality, exact_resize=True)
    resizer = Resizer(64, mode, False, encode_format=encode_format, encode_quality=quality)
    for name in ("jpeg", "jpeg progressive", "jpeg grey", "png", "webp lossless"):
        theirs, width, height, *_ = resizer(io.BytesIO(GOOD[name]))
        assert Encoder(how)(GOOD[name], sized(GOOD[name])) == (theirs, encode_format, width, height)


EXACT = ResizeSettings("border", exact_resize=True)


@pytest.mark.parametrize(
    "how", [ResizeSettings(), ResizeSettings("border"), ResizeSettings("no"), EXACT]
)
@pytest.mark.parametrize("name", ["gif", "jpeg cmyk", "avif", "png"])
def test_what_cannot_be_encoded_raises_the_one_error(how: ResizeSettings, name: str) -> None:
    image = sized(GOOD[name])
    for body in (b"", GOOD[name][:30], b"\xff" * 99):
        if how.resize_mode == "original" and image.plain:
            assert Encoder(how)(body, image)[0] == body
        else:
            with pytest.raises(EncodingError, match=image.format):
                Encoder(how)(body, image)


def test_two_threads_give_the_same_and_leave_the_process_its_output() -> None:
    encoder = Encoder(dataclasses.replace(EXACT, image_size=64))
    files = [(GOOD[name], sized(GOOD[name])) for name in ("jpeg", "gif", "webp")] * 40
    before = os.fstat(1), os.fstat(2)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda file: encoder(*file), files)) == [encoder(*f) for f in files]
    assert [status.st_ino for status in before] == [os.fstat(fd).st_ino for fd in (1, 2)]


def test_the_quality_of_a_png_is_a_level_of_compression() -> None:
    """Other settings: tests/pipeline/test_options.py."""
    with pytest.raises(ValueError, match="encode_quality must be 0 to 9 for png; got 95"):
        ResizeSettings(encode_format="png")


def test_img2dataset_is_imported_only_for_what_is_exactly_its_own() -> None:
    code = (
        "import sys; from alignset.transforms.images.resize import *\n"
        "Encoder(ResizeSettings('border'))\n"
        "assert not {'img2dataset', 'albumentations'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# The fast resizing beside img2dataset's own.


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Decibels: of a peak of 255 over the mean square of the differences."""
    return 10 * np.log10(255**2 / max(float(np.square(a - b).mean()), 1e-9))


def both(how: ResizeSettings, body: bytes) -> tuple[np.ndarray, np.ndarray]:
    """What the fast way gives and what img2dataset's gives."""
    image = examine(body)
    assert isinstance(image, Image)
    exact = dataclasses.replace(how, exact_resize=True)
    fast, slow = (Encoder(settings)(body, image) for settings in (how, exact))
    assert (fast.width, fast.height) == (slow.width, slow.height)
    assert fast.extension == slow.extension
    pixels = shown(fast.body)
    assert pixels.shape[:2] == (fast.height, fast.width)
    return pixels, shown(slow.body)


@pytest.mark.parametrize("size", [40, 256])
@pytest.mark.parametrize("mode", MODES)
def test_photographs_are_as_img2datasets_to_38_decibels(mode: str, size: int):
    large = photograph().resize((640, 469), PillowImage.Resampling.BICUBIC)
    noise = np.random.default_rng(1).normal(0, 4, (469, 640, 1))
    body = encoded(PillowImage.fromarray(np.uint8((large + noise).clip(0, 255))), "JPEG")
    assert psnr(*both(ResizeSettings(mode, size), body)) >= 38


@pytest.mark.parametrize("name", GOOD)
def test_every_kind_of_file_and_form_is_as_img2datasets(name: str):
    for *form, decibels in (("png", 6, 38), ("jpg", 95, 34), ("webp", 90, 34)):
        if form[0] == "png" or name == "jpeg":
            assert psnr(*both(ResizeSettings("keep_ratio", 64, *form), GOOD[name])) >= decibels


@pytest.mark.parametrize("seed", range(20))
def test_any_size_becomes_the_size_that_img2datasets_has(seed: int):
    random = Random(seed)
    width, height = (round(2 ** random.uniform(0, 9)) for _ in range(2))
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    body = encoded(PillowImage.fromarray(pixels), random.choice(["PNG", "JPEG"]))
    mode, size = random.choice(MODES), round(2 ** random.uniform(0, 9))
    only = random.random() < 0.3
    how = ResizeSettings(mode, size, "png", 1, resize_only_if_bigger=only)
    image = examine(body)
    assert isinstance(image, Image)
    slow, fast = (Encoder(dataclasses.replace(how, exact_resize=exact)) for exact in (True, False))
    try:
        theirs = slow(body, image)
    except ValueError as error:  # of an image that is smaller than the crop
        print(seed, error)
        assert mode == "center_crop"
        return
    ours = fast(body, image)
    assert (ours.width, ours.height) == (theirs.width, theirs.height), (seed, how, width, height)
    assert np.abs(shown(ours.body) - shown(theirs.body)).mean() < 3


@pytest.mark.parametrize("interpolation", ["nearest", "linear", "cubic", "area", "lanczos"])
def test_each_interpolation_is_opencvs_or_within_one_of_it(interpolation: str):
    how = ResizeSettings("keep_ratio", 50, "png", 1, downscale_interpolation=interpolation)
    ours, theirs = both(how, encoded(photograph(), "PNG"))
    assert np.abs(ours - theirs).max() <= (1 if interpolation == "area" else 0)
    how = ResizeSettings("keep_ratio", 333, "png", 1, upscale_interpolation=interpolation)
    ours, theirs = both(how, encoded(photograph(), "PNG"))
    assert np.array_equal(ours, theirs)
