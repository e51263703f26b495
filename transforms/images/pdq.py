"""PDQ, a perceptual hash of 256 bits that lists of known images use, by the package `pdqhash`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from alignset.transforms.images.examine import Image
from alignset.transforms.images.thumbnail import small_picture

BITS = 256
_LEAST_QUALITY = 50  # 0 to 100; an image with less detail than that is like too many others
_SIDE_PX = 512  # of the longer side, at most: the hash is of 64 px a side


def pdq_words(image: Image) -> npt.NDArray[np.uint64] | None:
    """The hash of an image as displayed: uint64[4], the most significant bit first. None where it
    has too little detail.

    Args:
      image: what `examine` said of it with `keep_picture`.

    Raises:
      ModuleNotFoundError: `pdqhash` is not installed.
    """
    import pdqhash  # an extra: only a list with such hashes needs it

    bits, quality = pdqhash.compute(np.asarray(small_picture(image, _SIDE_PX)))
    return None if quality < _LEAST_QUALITY else words_of_bits(bits)


def words_of_bits(bits: Any) -> npt.NDArray[np.uint64]:
    """uint64[4] of 256 zeros and ones, the most significant first."""
    return np.packbits(np.asarray(bits, np.uint8)).view(">u8").astype(np.uint64)
