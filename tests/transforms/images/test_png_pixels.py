"""PNG files by another decoder: the same pixels as Pillow's, or none at all."""

import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import PngImagePlugin

from tests.support.picture_files import encoded, photograph, transparent
from transforms.images.displayed import displayed
from transforms.images.examine import Image, Unusable, examine
from transforms.images.png_pixels import png_grey, png_pixels


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
    assert np.array_equal(png_pixels(body), np.asarray(expected))
    assert np.array_equal(png_grey(body), np.asarray(expected.convert("L")))


def test_each_sample_over_white_with_each_alpha():
    pairs = np.array([*itertools.product(range(256), range(256))], np.uint8)
    pixels = np.stack([pairs[:, 0], pairs[:, 0][::-1], pairs[:, 1], pairs[:, 1]], axis=1)
    body = encoded(PillowImage.fromarray(pixels.reshape(256, 256, 4)), "PNG")
    expected = by_pillow(body)
    assert np.array_equal(png_pixels(body), np.asarray(expected))
    assert np.array_equal(png_grey(body), np.asarray(expected.convert("L")))


ROWS = bytes(10 * (1 + 30))
ANOTHER_DECODER = {
    "a palette": encoded(photograph().convert("P"), "PNG"),
    "16 bits": png(5, 10, 2, ROWS, depth=16),
    "interlaced": png(10, 10, 2, ROWS, interlaced=1),
    "one colour that is transparent": png(10, 10, 2, ROWS, chunk(b"tRNS", bytes(6))),
    "animated": png(10, 10, 2, ROWS, chunk(b"acTL", struct.pack(">II", 1, 0))),
    "EXIF": png(10, 10, 2, ROWS, chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\0\0\0\0\0")),
    "XMP": png(10, 10, 2, ROWS, chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0")),
    "EXIF as a text": png(10, 10, 2, ROWS, chunk(b"tEXt", b"Raw profile type exif\0")),
    "a chunk that must be understood": png(10, 10, 2, ROWS, chunk(b"ABCD", b"")),
    "too few rows": png(10, 11, 2, ROWS),
    "no such filter": png(10, 10, 2, b"\x09" + ROWS[1:]),
    "no pixels": png(0, 10, 2, b""),
    "many pixels": png(4_000, 2_000, 0, bytes(2_000 * 4_001)),
}


@pytest.mark.parametrize("kind", ANOTHER_DECODER)
def test_another_decoder_must_look_at(kind: str):
    assert png_pixels(ANOTHER_DECODER[kind]) is png_grey(ANOTHER_DECODER[kind]) is None


def test_examined_as_with_pillow_alone(monkeypatch: pytest.MonkeyPatch):
    files = [encoded(transparent(), "PNG"), encoded(photograph(), "PNG"), *ANOTHER_DECODER.values()]
    cut = [body[: len(body) * share // 10] for body in files[:2] for share in range(10)]
    files += cut
    ours = [examine(body, keep_grey=True) for body in files]
    monkeypatch.setattr("transforms.images.examine.png_grey", lambda body: None)
    pillows = [examine(body, keep_grey=True) for body in files]
    assert ours == pillows
    assert {type(image) for image in ours} == {Image, Unusable}
    for one, other in zip(ours, pillows, strict=True):
        if isinstance(one, Image) and isinstance(other, Image):
            assert np.array_equal(one.grey, other.grey)


def test_the_sum_of_a_chunk_counts_and_that_of_its_stream_does_not():
    wrong_stream = png(10, 10, 2, ROWS, checksum=1)
    assert np.array_equal(png_pixels(wrong_stream), np.zeros((10, 10, 3)))
    wrong_chunk = bytearray(png(10, 10, 2, ROWS))
    wrong_chunk[-20] ^= 1
    assert examine(bytes(wrong_chunk)) == Unusable("undecodable", "broken", 10, 10)
