"""A small image of an image: to be looked at, and for PDQ, a perceptual hash of 256 bits that lists
of known images use, by the package `pdqhash`."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from alignset.transforms.images.decode import turn_of_file
from alignset.transforms.images.examine import Image, examine
from alignset.transforms.images.file_formats import FileLook

SIDE_PX = 192  # of the longer side, at most
QUALITY = 80


def thumbnail(body: bytes, side_px: int = SIDE_PX, quality: int = QUALITY) -> bytes:
    """A JPEG of the image in a file, as displayed.

    Args:
      side_px: of the longer side, at most.

    Raises:
      ValueError: there is no image; the message has the reason and the detail.
    """
    look = FileLook(body)
    with turn_of_file(look):
        image = examine(look, keep_picture=True, hashed=False)
        if not isinstance(image, Image):
            raise ValueError(f"{image.reason}: {image.detail}")
        small = small_picture(image, side_px)
        del image  # before the next one is decoded
    file = io.BytesIO()
    small.save(file, "JPEG", quality=quality)
    return file.getvalue()


def small_picture(image: Image, side_px: int) -> PillowImage.Image:
    """An image in RGB whose longer side has so many px at most.

    Args:
      image: what `examine` said of it with `keep_picture`.
    """
    assert image.picture is not None
    small = image.picture.copy()
    small.thumbnail((side_px, side_px))
    return small.convert("RGB")


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
