"""RGB as a person sees it: 16 bits scaled, white behind what is transparent."""

import math
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw

from alignset.train.classify.labelled_images import evaluation_pixels
from alignset.train.data.images import as_seen, decode_image, decode_square
from tests.support.train_shards import encoded


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
