"""Images of samples: upright, RGB, squared as Pillow does it, cropped inside."""

import io
import math
import random
import struct
import tracemalloc

import numpy as np
import pytest
from PIL import Image, ImageDraw, UnidentifiedImageError

from alignset.train.data.images import (
    central_square,
    convert_rgb,
    decode_image,
    decode_square,
    random_box,
    random_crop,
    resize_square,
)
from alignset.train.data.samples import LONGEST_IMAGE
from alignset.transforms.images.file_formats import MAX_SIDE
from alignset.transforms.workers.limited_process import CostlyError
from tests.fuzz.pictures import png_chunk
from tests.support.hostile_pictures import strip, tiff_of_one_tile
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


@pytest.mark.parametrize("picture_format", ["PNG", "JPEG", "WEBP"])
def test_images_come_out_upright_and_rgb(picture_format: str):
    half, exif = turned()
    data = encoded(half, picture_format, exif=exif)
    upright, square = decode_image(data), decode_square(data, 16)
    assert (upright.mode, upright.size, square.shape) == ("RGB", (40, 80), (16, 16, 3))
    for pixels in (np.asarray(upright), square):
        assert pixels[: len(pixels) // 3].min() > 240
        assert pixels[-len(pixels) // 3 :].max() < 15
    for image in (half.convert("L"), half.convert("P"), half.convert("CMYK").convert("RGBA")):
        assert decode_image(encoded(image)).mode == "RGB"
    assert decode_image(encoded(half.convert("CMYK"), "JPEG")).mode == "RGB"


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("width", [60, 200, 1000])
def test_squares_are_as_pillows(width: int, mode: str):
    data = encoded(noise(width, width * 3 // 4, mode), "JPEG", quality=90)
    whole = Image.open(io.BytesIO(data)).convert("RGB")
    expected = np.asarray(whole.resize((72, 72), Image.Resampling.BILINEAR)).astype(int)
    difference = np.abs(decode_square(data, 72).astype(int) - expected)
    assert difference.mean() < 1.5  # of 255: what a reduction rounds


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
    if picture_format == "PNG":
        assert abs(decode_square(data, 32)[..., 0].mean() - 127.5) < 2
    else:  # of folders alone
        with pytest.raises(OSError, match="cannot identify"):
            decode_square(data, 32)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(mode: str):
    data = transparent(mode)
    for pixels in (np.asarray(decode_image(data)), decode_square(data, 40)):
        assert (pixels[0, 0] == 255).all()
        assert (pixels[20, pixels.shape[1] // 2] == 0).all()
    half = decode_image(encoded(Image.new("RGBA", (9, 9), (255, 0, 0, 51)), "PNG"))
    assert half.getpixel((4, 4)) == (255, 204, 204)


def test_a_transparent_value_of_sixteen_bits_is_white():
    """PNG says it by its tRNS chunk; 1 is as dark as 0 in 8 bits, and is to be seen."""
    data = encoded(Image.fromarray(np.array([[0, 1, 65_535]], np.uint16)), "PNG")
    decoded = np.asarray(decode_image(data[:33] + png_chunk(b"tRNS", b"\0\0") + data[33:]))
    assert decoded[0, :, 0].tolist() == [255, 0, 255]


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
    assert np.asarray(convert_rgb(image))[0, :, 2].tolist() == list(expected)


def test_random_boxes_are_as_large_and_as_long_as_said():
    areas, aspects = [], []
    for seed in range(300):
        left, top, right, bottom = random_box(400, 300, 0.08, random.Random(seed))
        assert 0 <= left < right <= 400
        assert 0 <= top < bottom <= 300
        areas.append((right - left) * (bottom - top) / 120_000)
        aspects.append((right - left) / (bottom - top))
    assert min(areas) == pytest.approx(0.08, abs=0.01)
    assert max(areas) > 0.85
    assert min(aspects) == pytest.approx(3 / 4, abs=0.02)
    assert max(aspects) == pytest.approx(4 / 3, abs=0.02)
    assert random_box(1000, 1, 1.0, random.Random(0)) == (499, 0, 500, 1)  # no box fits


def test_the_central_square_of_a_long_thin_image_takes_little_memory():
    """Its shorter side resized to 330 px, the longer one would be 21 million."""
    assert (central_square(Image.new("RGB", (65_500, 1), (50,) * 3), 289) == 50).all()


NOISE = Image.fromarray(np.random.default_rng(64).integers(0, 256, (64, 64, 3)).astype(np.uint8))


def exif_of_fields_over_each_other(fields: int, size: int) -> bytes:
    """Each field names the same bytes: `fields` times `size` of them to read."""
    entries = struct.pack("<HHII", 0x0112, 3, 1, 6)
    entries += b"".join(
        struct.pack("<HHII", 1000 + n, 7, size, 8 + 2 + 12 * fields + 4) for n in range(fields - 1)
    )
    return b"II*\0" + struct.pack("<IH", 8, fields) + entries + bytes(4 + size)


def with_exif(picture_format: str, block: bytes) -> bytes:
    """An image 20 px wide and 10 high with this block; JPEG splits it in pieces of 64 KB."""
    data = encoded(Image.new("RGB", (20, 10)), picture_format)
    if picture_format == "PNG":
        return data[:33] + png_chunk(b"eXIf", block) + data[33:]
    pieces = [b"Exif\0\0" + block[at : at + 65_000] for at in range(0, len(block), 65_000)]
    segments = [b"\xff\xe1" + struct.pack(">H", len(piece) + 2) + piece for piece in pieces]
    return data[:2] + b"".join(segments) + data[20:]  # without JFIF Pillow looks into it at once


@pytest.mark.filterwarnings("ignore:the values of EXIF lie over each other")
@pytest.mark.parametrize("picture_format", ["PNG", "JPEG"])
@pytest.mark.parametrize(("fields", "size"), [(2_600, 30_000), (40_000, 1_000_000)])
def test_an_exif_block_takes_no_more_memory_than_it_has(
    picture_format: str, fields: int, size: int
):
    """62 KB took 72 s and 80 MB; 1.5 MB would take 40 GB."""
    data = with_exif(picture_format, exif_of_fields_over_each_other(fields, size))
    tracemalloc.start()
    upright = decode_image(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert upright.size == (10, 20)
    assert peak < 12 * len(data) + (4 << 20)


def test_a_strip_is_squared_by_its_middle():
    """Resized whole, a side of 65,535 px would have a line of 346 samples for each."""
    for size in ((1, MAX_SIDE), (MAX_SIDE, 1)):
        tracemalloc.start()
        square = decode_square(strip(*size), 346)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (square.shape, square.max()) == ((346, 346, 3), 0)
        assert peak < 20_000_000


def jpeg_of(*segments: bytes) -> bytes:
    data = encoded(NOISE, "JPEG")
    return data[:2] + b"".join(segments) + data[2:]


def progressive_of_scans(count: int, side: int = 64) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    data = encoded(Image.new("RGB", (side, side)), "JPEG", progressive=True)
    last = data.rfind(b"\xff\xda")
    return data[:last] + data[last:-2] * count + b"\xff\xd9"


def of_many_pixels(side: int) -> bytes:
    """A JPEG whose frame's header says that it is so large."""
    data = bytearray(encoded(NOISE, "JPEG"))
    start = data.find(b"\xff\xc0") + 5
    data[start : start + 4] = side.to_bytes(2, "big") * 2
    return bytes(data)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
TOO_MUCH = Image.DecompressionBombError
REFUSED = {
    "nothing": (b"", OSError),
    "no picture": (b"no picture", OSError),
    "a program": (EPS, OSError),
    "a mark alone": (b"\xff\xd8\xff\xe0", OSError),
    "cut off": (encoded(noise(300, 200), "JPEG")[:4_000], OSError),
    "EXIF in pieces": (jpeg_of(b"\xff\xe1\0\x09Exif\0\0a" * 65), TOO_MUCH),
    "segments": (jpeg_of(b"\xff\xfe\0\2" * 1000), TOO_MUCH),
    "scans": (progressive_of_scans(101), TOO_MUCH),
    "scans of many pixels": (progressive_of_scans(99, 4_600), TOO_MUCH),
    "bytes": (jpeg_of() + bytes(LONGEST_IMAGE), TOO_MUCH),
    "pixels": (of_many_pixels(50_000), TOO_MUCH),
    "pixels of few bytes": (strip(20_000, 20_000), TOO_MUCH),
    "a side": (strip(MAX_SIDE + 1, 1), TOO_MUCH),
    "a longer side": (strip(5_000_000, 1), TOO_MUCH),
    # Only folders have it. It gets no more memory than the largest image.
    "a tile": (tiff_of_one_tile(40_960), (CostlyError, UnidentifiedImageError)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_image_or_would_take_long_is_refused(name: str, monkeypatch):
    data, error = REFUSED[name]
    if error is TOO_MUCH:  # simplejpeg would make room for the pixels first
        monkeypatch.setattr("simplejpeg.decode_jpeg", lambda *_, **__: pytest.fail("it decodes"))
    for decode in (decode_image, lambda body: decode_square(body, 16)):
        with pytest.raises(error):
            decode(data)
    assert decode_image(tiff_of_one_tile(512)).size == (300, 300)


def test_a_gif_costs_no_more_for_its_comments():
    """5 MB of them before the image took a minute."""
    gif = encoded(NOISE.convert("P"), "GIF")
    comment = b"\x21\xfe" + (b"\xff" + bytes(255)) * 20_000 + b"\0"
    at = 13 + (3 << ((gif[10] & 7) + 1))
    assert (decode_square(gif[:at] + comment + gif[at:], 16) == decode_square(gif, 16)).all()


def test_scans_are_counted_as_viewers_see_them():
    """A film behind an image, or a comment, may hold what looks like scans."""
    film = b"\xff\xda\0\x08" * 500
    plain = jpeg_of()
    for data in (plain + film, jpeg_of(b"\xff\xfe" + struct.pack(">H", len(film) + 2) + film)):
        assert (decode_square(data, 16) == decode_square(plain, 16)).all()
    assert decode_square(progressive_of_scans(80), 16).shape == (16, 16, 3)
