"""PDQ by the package `pdqhash`, for which a function that gives made bits stands in here."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from alignset.transforms.images.examine import Image, examine
from alignset.transforms.images.pdq import pdq_words, words_of_bits
from tests.support.picture_files import encoded, photograph


def test_bits_are_read_as_the_digits_of_lists() -> None:
    digits = "0123456789abcdef" * 4
    bits = [int(bit) for digit in digits for bit in f"{int(digit, 16):04b}"]
    assert [f"{word:016x}" for word in words_of_bits(bits)] == ["0123456789abcdef"] * 4


@pytest.mark.parametrize("quality", [49, 50])
def test_what_the_package_is_shown(monkeypatch: pytest.MonkeyPatch, quality: int) -> None:
    shown = []

    def compute(pixels: np.ndarray) -> tuple[np.ndarray, int]:
        shown.append(pixels)
        return np.arange(256) % 2, quality

    monkeypatch.setitem(sys.modules, "pdqhash", SimpleNamespace(compute=compute))
    body = encoded(photograph(1, 1200, 900), "JPEG")
    image = examine(body)
    assert isinstance(image, Image)
    words = pdq_words(body, image)
    assert [pixels.shape for pixels in shown] == [(384, 512, 3)]
    assert (words is None) == (quality < 50)
    if words is not None:
        assert words.tolist() == [0x5555555555555555] * 4


def test_without_the_package_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pdqhash", None)
    body = encoded(photograph(1), "JPEG")
    image = examine(body)
    assert isinstance(image, Image)
    with pytest.raises(ModuleNotFoundError):
        pdq_words(body, image)
