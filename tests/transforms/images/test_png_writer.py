"""PNGs that are written: every decoder gives the pixels back."""

import hashlib
import io
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from PIL import Image as PillowImage

from alignset.transforms.images.examine import Image, examine
from alignset.transforms.images.resize import png_of
from alignset.transforms.images.thumbnail import pdq_words
from tests.support.picture_files import encoded, photograph

RNG = np.random.default_rng(11)
PICTURES = {
    "a photograph": np.asarray(photograph(1, 300, 200)),
    "a grey one": np.asarray(photograph(2, 300, 200).convert("L")),
    "noise": RNG.integers(0, 256, (200, 333, 3), np.uint8),
    "white, of many blocks": np.full((900, 1000), 255, np.uint8),
    "rows that are not contiguous": np.asarray(photograph())[::-1, ::2],
    "a pixel": RNG.integers(0, 256, (1, 1, 3), np.uint8),
    "a grey pixel": RNG.integers(0, 256, (1, 1), np.uint8),
    "a row": RNG.integers(0, 256, (1, 999, 3), np.uint8),
    "a column": RNG.integers(0, 256, (999, 1), np.uint8),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_decoders_give_the_pixels_back(kind: str):
    pixels = PICTURES[kind]
    body = png_of(pixels)
    for opened in map(io.BytesIO, (body, png_of(pixels, b"a profile" * 99))):
        assert np.array_equal(np.asarray(PillowImage.open(opened)), pixels)
    assert PillowImage.open(opened).info["icc_profile"] == b"a profile" * 99
    by_opencv = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(by_opencv if pixels.ndim == 2 else by_opencv[:, :, ::-1], pixels)
    assert isinstance(examine(body), Image)


def test_the_bytes_follow_from_the_pixels():
    """A shard's must be the same wherever OpenCV is of one version."""
    y, x = np.mgrid[0:200, 0:300]
    pixels = np.dstack([(x * y) >> 5, x ^ y, x + 2 * y]).astype(np.uint8)
    assert hashlib.sha256(png_of(pixels)).hexdigest() == (
        "affc254cb4c801e7f96a9e56e8e76c24bb3be70b2314bfeffb23643e12c04175"
    )


# PDQ by the package `pdqhash`, for which a function that gives made bits stands in here.


def test_what_the_package_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    image = examine(encoded(photograph(1, 1600, 1200), "JPEG"), keep_picture=True)
    assert isinstance(image, Image)
    shown = []

    def compute(pixels: np.ndarray) -> tuple[np.ndarray, int]:
        shown.append(pixels)
        digits = "0123456789abcdef" * 4  # as lists write them
        bits = [int(bit) for digit in digits for bit in f"{int(digit, 16):04b}"]
        return np.array(bits), 48 + len(shown)

    monkeypatch.setitem(sys.modules, "pdqhash", SimpleNamespace(compute=compute))
    assert pdq_words(image) is None  # it has too little detail
    assert pdq_words(image).tolist() == [0x0123456789ABCDEF] * 4
    assert [pixels.shape for pixels in shown] == [(300, 400, 3)] * 2
    monkeypatch.setitem(sys.modules, "pdqhash", None)
    with pytest.raises(ModuleNotFoundError):
        pdq_words(image)
