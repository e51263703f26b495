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


def test_what_the_package_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    image = examine(encoded(photograph(1, 1600, 1200), "JPEG"), keep_picture=True)
    assert isinstance(image, Image)
    shown = []

    def compute(pixels: np.ndarray) -> tuple[np.ndarray, int]:
        shown.append(pixels)
        return np.arange(256) % 2, 48 + len(shown)

    monkeypatch.setitem(sys.modules, "pdqhash", SimpleNamespace(compute=compute))
    assert pdq_words(image) is None  # it has too little detail
    assert pdq_words(image).tolist() == [0x5555555555555555] * 4
    assert [pixels.shape for pixels in shown] == [(300, 400, 3)] * 2
    monkeypatch.setitem(sys.modules, "pdqhash", None)
    with pytest.raises(ModuleNotFoundError):
        pdq_words(image)
