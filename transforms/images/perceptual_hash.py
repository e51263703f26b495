"""imagehash's perceptual hash, of pictures and, in a fifth of the time, of grey planes."""

import math
from functools import lru_cache

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from transforms.images.resampling import resampled, weights_of

_SIDE, _KEPT = 32, 8  # imagehash.phash: a picture of 32 px a side, of whose DCT 8 x 8 are kept
_LANCZOS_SUPPORT = 3.0
_LONGEST_PX = 1 << 13  # of a longer line the weights take megabytes
_MOST_TALL = 50  # of pictures that are 100 times as tall as wide Pillow resizes the columns first
_ZERO, _MOST = np.float32(0), np.float32(255)
_ANGLES = np.outer(np.arange(_KEPT), 2 * np.arange(_SIDE) + 1) * math.pi / (2 * _SIDE)
_LONGEST_KEPT = 1024  # px; 256 matrices of a usual 100 take 3 MB, and of any 34 MB
_DCT = (2 * np.cos(_ANGLES)).astype(np.float32)  # float32[8, 32]


def picture_hash(picture: PillowImage.Image) -> int:
    """`imagehash.phash` of a picture as uint64, the most significant bit first."""
    return grey_hash(np.asarray(picture.convert("L")))


def grey_hash(grey: npt.NDArray[np.uint8]) -> int:
    """The same of its grey pixels, uint8[height, width].

    Pillow's resize to 32 px a side would take most of the time, and this one is the same in a
    quarter of it.
    """
    height, width = grey.shape
    if height <= _MOST_TALL * width and max(height, width) <= _LONGEST_PX:
        lines = (weights_of("lanczos", side, _SIDE) for side in (width, height))
        grey = resampled(grey, *lines)
    return _as_int(imagehash.phash(PillowImage.fromarray(grey)).hash)


def plane_hash(plane: npt.NDArray[np.uint8]) -> int:
    """The same of a grey picture, by matrices that are made once for each size up to 1024 px. Takes
    20 us, beyond 1024 px some ms.

    Args:
      plane: uint8[height, width].

    Returns:
      uint64. That of `picture_hash`, but where a picture has next to no detail.
    """
    height, width = plane.shape
    # As Pillow does it: columns first, and rounded to bytes after each.
    narrow = _rounded(plane.astype(np.float32) @ _resize_matrix(width).T)
    small = _rounded(_resize_matrix(height) @ narrow)
    # Whole numbers: what is zero but for rounding must not be told by the machine's rounding.
    low = np.rint(_DCT @ small @ _DCT.T)
    ordered = np.sort(low, axis=None)
    middle = (ordered[len(ordered) // 2 - 1] + ordered[len(ordered) // 2]) / 2
    return _as_int(low > middle)


def _rounded(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    np.rint(samples, out=samples)
    np.maximum(samples, _ZERO, out=samples)
    return np.minimum(samples, _MOST, out=samples)


def _as_int(bits: npt.NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _made_matrix(size: int) -> npt.NDArray[np.float32]:
    """float32[32, size]: Pillow's Lanczos resize to 32 samples."""
    resize = np.zeros((_SIDE, size), np.float32)
    scale = size / _SIDE
    stretch = max(scale, 1.0)
    for out in range(_SIDE):
        centre = (out + 0.5) * scale
        begin = max(0, int(centre - _LANCZOS_SUPPORT * stretch + 0.5))
        end = min(size, int(centre + _LANCZOS_SUPPORT * stretch + 0.5))
        weights = _lanczos((np.arange(begin, end) - centre + 0.5) / stretch)
        resize[out, begin:end] = weights / weights.sum()
    return resize


_kept_matrix = lru_cache(maxsize=256)(_made_matrix)


def _resize_matrix(size: int) -> npt.NDArray[np.float32]:
    return _kept_matrix(size) if size <= _LONGEST_KEPT else _made_matrix(size)


def _lanczos(x: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    inside = np.abs(x) < _LANCZOS_SUPPORT
    return np.where(inside, np.sinc(x) * np.sinc(x / _LANCZOS_SUPPORT), 0.0)
