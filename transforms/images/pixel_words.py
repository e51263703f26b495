"""Pixels as numbers, of which many are looked at at once: over white, and in grey."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from alignset.transforms.columns.kernels import kernel
from alignset.transforms.images.resampling import Pixels


def words_of(samples: Pixels) -> npt.NDArray[np.uint32]:
    """Each pixel as a number of red, green, blue and alpha, of which many are looked at at once: of
    samples that are three apart a grey pixel takes 1.3 ns, and of these 0.3 with their making."""
    return np.ascontiguousarray(samples).view("<u4").reshape(-1)


@kernel
def _on_white(word, shift):  # type: ignore[no-untyped-def]
    """A sample of a pixel over white, as Pillow pastes with a mask."""
    sample, alpha = (word >> np.uint32(shift)) & np.uint32(255), word >> np.uint32(24)
    mixed = np.uint32(255) * (np.uint32(255) - alpha) + sample * alpha + np.uint32(128)
    return ((mixed >> np.uint32(8)) + mixed) >> np.uint32(8)


@kernel
def _luma(red, green, blue):  # type: ignore[no-untyped-def]
    """Pillow's whole numbers for the weights of ITU-R 601-2."""
    mixed = red * np.uint32(19595) + green * np.uint32(38470) + blue * np.uint32(7471)
    return np.uint8(np.uint32(mixed + np.uint32(0x8000)) >> np.uint32(16))


@kernel
def over_white(words):  # type: ignore[no-untyped-def]
    """Puts each pixel over white, in its place; its alpha then says nothing."""
    if _are_opaque(words):
        return
    for at in range(words.shape[0]):
        red, green = _on_white(words[at], 0), _on_white(words[at], 8)
        blue = _on_white(words[at], 16)
        words[at] = np.uint32(red | green << np.uint32(8) | blue << np.uint32(16))


@kernel
def _are_opaque(words):  # type: ignore[no-untyped-def]
    common = np.uint32(0xFFFFFFFF)
    for at in range(words.shape[0]):
        common &= words[at]
    return common >= np.uint32(0xFF000000)


@kernel
def grey_of_words(words, grey):  # type: ignore[no-untyped-def]
    """Puts the grey of each pixel over white into `grey`, as Pillow's `convert("L")` has it."""
    if not _are_opaque(words):
        for at in range(words.shape[0]):
            red, green = _on_white(words[at], 0), _on_white(words[at], 8)
            grey[at] = _luma(red, green, _on_white(words[at], 16))
        return
    for at in range(words.shape[0]):
        red, green = words[at] & np.uint32(255), (words[at] >> np.uint32(8)) & np.uint32(255)
        grey[at] = _luma(red, green, (words[at] >> np.uint32(16)) & np.uint32(255))
