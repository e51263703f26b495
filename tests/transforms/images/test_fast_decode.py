"""PNG and WebP files by other decoders: the same pixels as Pillow's, or none at all."""

import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import PngImagePlugin, WebPImagePlugin

from alignset.transforms.images.displayed import displayed
from alignset.transforms.images.examine import Image, Unusable, examine
from alignset.transforms.images.fast_decode import fast_grey, fast_pixels
from tests.support.picture_files import encoded, photograph, transparent


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, colour: int, rows: bytes, *more: bytes, **other: int) -> bytes:
    """A PNG of these filtered rows, with other chunks before them."""
    head = struct.pack(
        ">IIBBBBB", width, height, other.get("depth", 8), colour, 0, 0, other.get("interlaced", 0)
    )
    packed = zlib.compress(rows)
    if "checksum" in other:
        packed = packed[:-4] + struct.pack(">I", other["checksum"])
    chunks = [chunk(b"IHDR", head), *more, chunk(b"IDAT", packed), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def by_pillow(body: bytes) -> PillowImage.Image:
    return displayed(PngImagePlugin.PngImageFile(io.BytesIO(body)))


@pytest.mark.parametrize(("colour", "samples"), [(0, 1), (2, 3), (6, 4)])
@pytest.mark.parametrize("filtered", [0, 1, 2, 3, 4, 5])
def test_each_filter_gives_pillows_pixels(colour: int, samples: int, filtered: int):
    rng = np.random.default_rng(colour + filtered)
    rows = rng.integers(0, 256, (37, 1 + 41 * samples), np.uint8)
    rows[:, 0] = filtered if filtered < 5 else rng.integers(0, 5, 37)
    body = png(41, 37, colour, rows.tobytes())
    expected = by_pillow(body)
    assert np.array_equal(fast_pixels(body, "png"), np.asarray(expected))
    assert np.array_equal(fast_grey(body, "png"), np.asarray(expected.convert("L")))


# The first column and row of each pass of an interlaced PNG, and the steps to the next ones.
ADAM7 = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)


@pytest.mark.parametrize(("colour", "samples"), [(0, 1), (2, 3), (6, 4)])
@pytest.mark.parametrize(("width", "height"), [(41, 37), (3, 2), (1, 9)])
def test_interlaced_pngs(colour: int, samples: int, width: int, height: int):
    rng = np.random.default_rng(width)
    pixels = rng.integers(0, 256, (height, width, samples), np.uint8)
    passes = [pixels[top::down, left::across] for left, top, across, down in ADAM7]
    rows = b"".join(b"\0" + row.tobytes() for part in passes if part.size for row in part)
    body = png(width, height, colour, rows, interlaced=1)
    expected = by_pillow(body)
    assert np.array_equal(fast_pixels(body, "png"), np.asarray(expected))
    assert np.array_equal(fast_grey(body, "png"), np.asarray(expected.convert("L")))


def test_each_sample_over_white_with_each_alpha():
    pairs = np.array([*itertools.product(range(256), range(256))], np.uint8)
    pixels = np.stack([pairs[:, 0], pairs[:, 0][::-1], pairs[:, 1], pairs[:, 1]], axis=1)
    body = encoded(PillowImage.fromarray(pixels.reshape(256, 256, 4)), "PNG")
    expected = by_pillow(body)
    assert np.array_equal(fast_pixels(body, "png"), np.asarray(expected))
    assert np.array_equal(fast_grey(body, "png"), np.asarray(expected.convert("L")))


ROWS = bytes(10 * (1 + 30))
ANOTHER_DECODER = {
    "interlaced, too few rows": png(40, 40, 2, ROWS, interlaced=1),
    "one colour that is transparent": png(10, 10, 2, ROWS, chunk(b"tRNS", bytes(6))),
    "animated": png(10, 10, 2, ROWS, chunk(b"acTL", struct.pack(">II", 1, 0))),
    "EXIF": png(10, 10, 2, ROWS, chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\0\0\0\0\0")),
    "XMP": png(10, 10, 2, ROWS, chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0")),
    "EXIF as a text": png(10, 10, 2, ROWS, chunk(b"tEXt", b"Raw profile type exif\0")),
    "a chunk that must be understood": png(10, 10, 2, ROWS, chunk(b"ABCD", b"")),
    "too few rows": png(10, 11, 2, ROWS),
    "no such filter": png(10, 10, 2, b"\x09" + ROWS[1:]),
    "no pixels": png(0, 10, 2, b""),
    "a wrong sum of the stream": png(10, 10, 2, ROWS, checksum=1),
    "too many rows": png(10, 9, 2, ROWS),
    "a palette that it does not need": png(10, 10, 2, ROWS, chunk(b"PLTE", bytes(3))),
    "thousands of chunks": png(10, 10, 2, ROWS, *[chunk(b"tIME", b"")] * 8_192),
}


@pytest.mark.parametrize("kind", ANOTHER_DECODER)
def test_another_decoder_must_look_at(kind: str):
    assert (
        fast_pixels(ANOTHER_DECODER[kind], "png") is fast_grey(ANOTHER_DECODER[kind], "png") is None
    )


EXIF = PillowImage.Exif()
EXIF[0x0112] = 6
WEBPS = {
    "lossy": encoded(photograph(), "WEBP"),
    "lossless": encoded(photograph(), "WEBP", lossless=True),
    "of even tones": encoded(photograph().convert("L"), "WEBP", quality=100),
    "transparent": encoded(transparent(), "WEBP"),
    "transparent and lossless": encoded(transparent(), "WEBP", lossless=True),
    "with a profile": encoded(photograph(), "WEBP", icc_profile=b"a colour profile"),
}
OTHER_WEBPS = {
    "turned": encoded(photograph(), "WEBP", exif=EXIF),
    "with XMP": encoded(photograph(), "WEBP", xmp=b"<x/>"),
    "animated": encoded(
        photograph(), "WEBP", save_all=True, append_images=[photograph().rotate(90)]
    ),
}


@pytest.mark.parametrize("kind", WEBPS)
def test_webps_have_pillows_pixels(kind: str):
    expected = displayed(WebPImagePlugin.WebPImageFile(io.BytesIO(WEBPS[kind])))
    assert np.array_equal(fast_pixels(WEBPS[kind], "webp"), np.asarray(expected))
    assert np.array_equal(fast_grey(WEBPS[kind], "webp"), np.asarray(expected.convert("L")))


@pytest.mark.parametrize("kind", OTHER_WEBPS)
def test_pillow_must_look_at_webps_that_are(kind: str):
    assert fast_pixels(OTHER_WEBPS[kind], "webp") is None


def test_webps_whose_chunks_do_not_fill_them():
    """OpenCV reads the pixels of such a file on behind the end of their chunk, Pillow does not."""
    lossless = WEBPS["lossless"]
    longer = lossless[:900] + bytes(100) + lossless[900:]
    longer = longer[:4] + struct.pack("<I", len(longer) - 8) + longer[8:]
    many = WEBPS["with a profile"] + b"abcd\0\0\0\0" * 100
    many = many[:4] + struct.pack("<I", len(many) - 8) + many[8:]
    for body in (longer, many):
        assert fast_pixels(body, "webp") is None


def test_broken_webps_are_left_to_pillow_without_a_word(capfd: pytest.CaptureFixture[str]):
    for body in WEBPS.values():
        for end in range(0, len(body), 97):
            whole = body[:4] + struct.pack("<I", end) + body[8 : end + 8]
            assert fast_pixels(whole, "webp") is None
    assert capfd.readouterr() == ("", "")


def test_examined_as_with_pillow_alone(monkeypatch: pytest.MonkeyPatch):
    files = [*WEBPS.values(), encoded(transparent(), "PNG"), encoded(photograph(), "PNG")]
    cut = [body[: len(body) * share // 10] for body in files for share in range(10)]
    files += [*cut, *ANOTHER_DECODER.values(), *OTHER_WEBPS.values()]
    ours = [examine(body, keep_grey=True) for body in files]
    monkeypatch.setattr("alignset.transforms.images.examine.fast_grey", lambda body, name: None)
    pillows = [examine(body, keep_grey=True) for body in files]
    assert ours == pillows
    assert {type(image) for image in ours} == {Image, Unusable}
    for one, other in zip(ours, pillows, strict=True):
        if isinstance(one, Image) and isinstance(other, Image):
            assert np.array_equal(one.grey, other.grey)


def test_the_sums_of_chunks_and_of_the_stream_count():
    assert examine(png(10, 10, 2, ROWS, checksum=1)) == Unusable("undecodable", "broken", 10, 10)
    wrong_chunk = bytearray(png(10, 10, 2, ROWS))
    wrong_chunk[-20] ^= 1
    assert examine(bytes(wrong_chunk)) == Unusable("undecodable", "broken", 10, 10)
