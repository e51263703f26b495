"""imagehash's perceptual hash, of images and, in less time, of small grey thumbnails."""

import math

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

_SIDE, _KEPT = 32, 8  # imagehash.phash: an image of 32 px a side, of whose DCT 8 x 8 are kept
_LARGE_PX = 224  # of the shorter side of most JPEGs as they are decoded
_ANGLES = np.outer(np.arange(_KEPT), 2 * np.arange(_SIDE) + 1) * math.pi / (2 * _SIDE)
_DCT = (2 * np.cos(_ANGLES)).astype(np.float32)  # float32[8, 32]
_LANCZOS = PillowImage.Resampling.LANCZOS


def picture_hash(picture: PillowImage.Image) -> int:
    """`imagehash.phash` of an image as uint64, the most significant bit first."""
    return _as_int(imagehash.phash(picture).hash)


def jpeg_hash(grey: PillowImage.Image) -> int:
    """The same of a JPEG in grey, in less time. A larger one is shrunk by whole factors first, to
    three times the 32 px or more."""
    gap = 3.0 if min(grey.size) >= _LARGE_PX else None
    return plane_hash(np.asarray(grey.resize((_SIDE, _SIDE), _LANCZOS, reducing_gap=gap)))


def plane_hash(plane: npt.NDArray[np.uint8]) -> int:
    """The same of a small grey thumbnail, in a third of the time.

    Args:
      plane: uint8[height, width].

    Returns:
      uint64. That of `picture_hash`, but where an image has next to no detail.
    """
    # Rows first in two steps: of a tall image Pillow would resize the columns first.
    lines = PillowImage.fromarray(plane).resize((_SIDE, len(plane)), _LANCZOS)
    small = np.asarray(lines.resize((_SIDE, _SIDE), _LANCZOS), np.float32)
    # Whole numbers: what is zero but for rounding must not be told by the machine's rounding.
    low = np.rint(_DCT @ small @ _DCT.T)
    values = np.sort(low, axis=None)
    middle = (values[len(values) // 2 - 1] + values[len(values) // 2]) / 2
    return _as_int(low > middle)


def _as_int(bits: npt.NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
