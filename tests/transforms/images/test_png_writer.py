"""PNGs that are written without a look at what was before: every decoder gives the pixels back."""

import hashlib
import io
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage

from alignset.transforms.images.examine import Image, examine
from alignset.transforms.images.fast_decode import fast_pixels
from alignset.transforms.images.png_writer import png_of
from tests.support.picture_files import encoded, photograph

RNG = np.random.default_rng(11)


def skewed(height: int, width: int) -> np.ndarray:
    """Bytes each of which is half as frequent as the next, whose codes would be 20 bits long."""
    levels = np.minimum(RNG.geometric(0.5, height * width * 3), 40)
    return levels.astype(np.uint8).reshape(height, width, 3).cumsum(axis=1, dtype=np.uint8)


PICTURES = {
    "a photograph": np.asarray(photograph(1, 300, 200)),
    "a grey one": np.asarray(photograph(2, 300, 200).convert("L")),
    "noise": RNG.integers(0, 256, (200, 333, 3), np.uint8),
    "grey noise": RNG.integers(0, 256, (500, 401), np.uint8),
    "black": np.zeros((700, 500, 3), np.uint8),
    "white, of many blocks": np.full((900, 1000), 255, np.uint8),
    "a drawing": np.kron(
        RNG.integers(0, 2, (30, 40, 3), np.uint8) * 255, np.ones((9, 7, 1), np.uint8)
    ),
    "skewed": skewed(300, 400),
    "a pixel": RNG.integers(0, 256, (1, 1, 3), np.uint8),
    "a grey pixel": RNG.integers(0, 256, (1, 1), np.uint8),
    "a row": RNG.integers(0, 256, (1, 999, 3), np.uint8),
    "a column": RNG.integers(0, 256, (999, 1), np.uint8),
    "a block to the byte": RNG.integers(0, 256, (1 << 9, (1 << 8) - 1), np.uint8),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_decoders_give_the_pixels_back(kind: str):
    pixels = PICTURES[kind]
    body = png_of(pixels)
    assert np.array_equal(np.asarray(PillowImage.open(io.BytesIO(body))), pixels)
    by_opencv = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(by_opencv if pixels.ndim == 2 else by_opencv[:, :, ::-1], pixels)
    assert np.array_equal(fast_pixels(body, "png"), pixels)
    assert isinstance(examine(body), Image)


@pytest.mark.parametrize("height", [1, 2, 3])
@pytest.mark.parametrize("width", [*range(1, 20), 255, 256, 257, 258, 259, 260, 261, 517, 518])
def test_runs_of_every_length(height: int, width: int):
    """Even rows with one other byte."""
    for at in (0, width // 2, width - 1):
        pixels = np.full((height, width), 9, np.uint8)
        pixels[-1, at] = 200
        body = png_of(pixels)
        assert np.array_equal(np.asarray(PillowImage.open(io.BytesIO(body))), pixels)


def test_rows_that_are_not_contiguous():
    pixels = np.asarray(photograph())[::-1, ::2]
    assert np.array_equal(np.asarray(PillowImage.open(io.BytesIO(png_of(pixels)))), pixels)


def test_a_colour_profile_is_kept():
    opened = PillowImage.open(io.BytesIO(png_of(np.asarray(photograph()), b"a profile" * 99)))
    assert opened.info["icc_profile"] == b"a profile" * 99


def test_photographs_are_as_small_as_zlibs_and_noise_hardly_larger():
    photo = PICTURES["a photograph"]
    assert len(png_of(photo)) < 1.02 * len(
        encoded(PillowImage.fromarray(photo), "PNG", compress_level=1)
    )
    assert len(png_of(PICTURES["noise"])) < 1.01 * PICTURES["noise"].nbytes
    assert len(png_of(PICTURES["black"])) < PICTURES["black"].nbytes / 150


def test_the_bytes_follow_from_the_pixels():
    """A shard's must be the same everywhere."""
    y, x = np.mgrid[0:200, 0:300]
    pixels = np.dstack([(x * y) >> 5, x ^ y, x + 2 * y]).astype(np.uint8)
    assert hashlib.sha256(png_of(pixels)).hexdigest() == (
        "7c6fd7f5518ff5e0c16ffbdae258be1affedbd2ab65b9a7d2537776bd77fe62d"
    )


def test_the_stream_is_one_that_zlib_takes_whole():
    body = png_of(PICTURES["skewed"])
    begin = body.index(b"IDAT") + 4
    inflating = zlib.decompressobj()
    rows = inflating.decompress(body[begin:-16]) + inflating.flush()
    assert inflating.eof and not inflating.unused_data  # noqa: PT018
    assert len(rows) == 300 * (1 + 3 * 400)
