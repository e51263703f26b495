"""Images of samples: upright, RGB, squared as Pillow does it, cropped inside."""

import io
import math
import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw

from alignset.train.classify.labelled_images import evaluation_pixels
from alignset.train.data.images import (
    as_seen,
    decode_image,
    decode_square,
    random_crop,
    resize_square,
)
from tests.support.train_shards import encoded


def turned() -> tuple[Image.Image, Image.Exif]:
    half = Image.new("RGB", (80, 40), "black")
    half.paste("white", (0, 0, 40, 40))  # left half white
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right by 90 degrees to see it upright: white goes to the top
    return half, exif


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(width)
    small = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


def test_images_come_out_upright_and_rgb():
    half, exif = turned()
    upright = decode_image(encoded(half, "PNG", exif=exif))
    assert (upright.mode, upright.size) == ("RGB", (40, 80))
    assert upright.getpixel((10, 10)) == (255, 255, 255)
    assert upright.getpixel((10, 60)) == (0, 0, 0)
    for image in (half.convert("L"), half.convert("P"), half.convert("CMYK").convert("RGBA")):
        assert decode_image(encoded(image)).mode == "RGB"
    assert decode_image(encoded(half.convert("CMYK"), "JPEG")).mode == "RGB"


@pytest.mark.parametrize("picture_format", ["PNG", "JPEG", "WEBP"])
def test_squares_are_upright(picture_format: str):
    half, exif = turned()
    square = decode_square(encoded(half, picture_format, exif=exif), 16)
    assert square.shape == (16, 16, 3)
    assert square[:6].min() > 240
    assert square[10:].max() < 15


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("width", [60, 200, 1000])
def test_squares_are_as_pillows(width: int, mode: str):
    data = encoded(noise(width, width * 3 // 4, mode), "JPEG", quality=90)
    whole = Image.open(io.BytesIO(data)).convert("RGB")
    expected = np.asarray(whole.resize((72, 72), Image.Resampling.BILINEAR)).astype(int)
    difference = np.abs(decode_square(data, 72).astype(int) - expected)
    assert difference.mean() < 1.5  # of 255: what a reduction rounds


def test_fine_detail_is_smoothed_as_pillow_does():
    rng = np.random.default_rng(1)
    image = Image.fromarray(rng.integers(0, 256, (150, 190, 3)).astype(np.uint8))
    expected = np.asarray(image.resize((72, 72), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(decode_square(encoded(image), 72).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("data", [b"", b"no picture", b"\xff\xd8\xff\xe0"])
def test_no_image_raises(data: bytes):
    with pytest.raises(OSError):
        decode_square(data, 16)


def test_a_cut_off_jpeg_raises():
    data = encoded(noise(300, 200), "JPEG")
    with pytest.raises(OSError):
        decode_square(data[: len(data) // 2], 16)


def test_too_many_pixels_raise(monkeypatch):
    # simplejpeg would make room for them first.
    monkeypatch.setattr("simplejpeg.decode_jpeg", lambda *_, **__: pytest.fail("it decodes"))
    data = bytearray(encoded(noise(64, 64), "JPEG"))
    start = data.find(b"\xff\xc0") + 5  # height and width of the frame's header
    data[start : start + 4] = (50_000).to_bytes(2, "big") * 2
    with pytest.raises(Image.DecompressionBombError):
        decode_square(bytes(data), 16)


def test_resize_squares_and_crop_stays_inside():
    ramp = np.asarray(Image.linear_gradient("L").resize((30, 50)).convert("RGB")).copy()
    pixels = resize_square(ramp, 20)
    assert pixels.shape == (20, 20, 3)
    rng = random.Random(1)
    tops = {int(random_crop(pixels, 16, rng, flip=False)[0, 0, 0]) for _ in range(60)}
    assert tops == {int(pixels[top, 0, 0]) for top in range(5)}  # every offset, none beyond
    assert random_crop(pixels, 16, rng, flip=True).base is None  # a view would hold all pixels
    wide = np.arange(16, dtype=np.uint8)[None, :, None] * np.ones((16, 16, 3), np.uint8)
    firsts = {int(random_crop(wide, 16, rng, flip=True)[0, 0, 0]) for _ in range(40)}
    assert firsts == {0, 15}
    assert {int(random_crop(wide, 16, rng, flip=False)[0, 0, 0]) for _ in range(40)} == {0}


def test_a_format_that_starts_a_program_is_no_image():
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    with pytest.raises(OSError, match="cannot identify"):
        decode_image(eps)


def sixteen_bits(picture_format: str) -> bytes:
    ramp = np.linspace(0, 65_535, 48 * 40).astype(np.uint16).reshape(40, 48)
    return encoded(Image.fromarray(ramp), picture_format)


def transparent(mode: str) -> bytes:
    """A black disc on transparent black, or on a transparent colour of the palette."""
    alpha = Image.new("L", (48, 40))
    ImageDraw.Draw(alpha).ellipse((12, 8, 36, 32), fill=255)
    black = Image.new("RGB", alpha.size)
    black.putalpha(alpha)
    if mode == "P":
        paletted = Image.new("P", alpha.size, 0)
        paletted.putpalette([0, 0, 0, 0, 0, 0])
        paletted.paste(1, mask=alpha)
        return encoded(paletted, "PNG", transparency=0)
    return encoded(black.convert(mode), "PNG")


@pytest.mark.parametrize("picture_format", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled(picture_format: str):
    data = sixteen_bits(picture_format)
    expected = np.linspace(0, 255, 48 * 40).reshape(40, 48)
    decoded = np.asarray(decode_image(data)).astype(float)
    assert abs(decoded - expected[..., None]).max() <= 1
    assert abs(decode_square(data, 32)[..., 0].mean() - 127.5) < 2


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(mode: str):
    data = transparent(mode)
    for pixels in (np.asarray(decode_image(data)), decode_square(data, 40)):
        assert (pixels[0, 0] == 255).all()
        assert (pixels[20, pixels.shape[1] // 2] == 0).all()


def test_a_transparent_value_of_sixteen_bits_is_white():
    """PNG says it by its tRNS chunk; 1 is as dark as 0 in 8 bits, and is to be seen."""
    data = encoded(Image.fromarray(np.array([[0, 1, 65_535]], np.uint16)), "PNG")
    body = b"tRNS\0\0"
    chunk = struct.pack(">I", 2) + body + struct.pack(">I", zlib.crc32(body))
    decoded = np.asarray(decode_image(data[:33] + chunk + data[33:]))
    assert decoded[0, :, 0].tolist() == [255, 0, 255]


def test_half_transparent_is_half_white():
    data = encoded(Image.new("RGBA", (9, 9), (255, 0, 0, 51)), "PNG")
    assert np.asarray(decode_image(data))[4, 4].tolist() == [255, 204, 204]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.0, 0.5, 1.0), (0, 128, 255)),
        ((0, 100, 255), (0, 100, 255)),
        ((0.0, math.nan, 200.0, 1_000.0), (0, 0, 1, 4)),
        ((-math.inf, 0.5, math.inf, 1.0), (0, 128, 255, 255)),
    ],
)
def test_numbers_that_are_no_bytes(values, expected):
    image = Image.fromarray(np.array([values], np.int32 if values[1] == 100 else np.float32))
    assert np.asarray(as_seen(image))[0, :, 2].tolist() == list(expected)


def test_training_evaluation_and_classification_see_the_same(tmp_path):
    """Clipped, the first would be white; black on transparent black, the second would be black."""
    for name, data in {"16": sixteen_bits("PNG"), "alpha": transparent("RGBA")}.items():
        path = tmp_path / f"{name}.png"
        path.write_bytes(data)
        decoded = np.asarray(decode_image(data)).mean()
        assert abs(decode_square(data, 40).mean() - decoded) < 1
        assert 100 < evaluation_pixels(str(path), 40).mean() < 200  # the central square
