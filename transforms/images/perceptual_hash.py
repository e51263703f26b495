"""imagehash's perceptual hash, of pictures and, in less time, of small grey planes."""

import math

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from alignset.transforms.images.resampling import resampled, weights_of

_SIDE, _KEPT = 32, 8  # imagehash.phash: a picture of 32 px a side, of whose DCT 8 x 8 are kept
_LONGEST_PX = 1 << 13  # of a longer line the weights take megabytes
_MOST_TALL = 50  # of pictures that are 100 times as tall as wide Pillow resizes the columns first
_ANGLES = np.outer(np.arange(_KEPT), 2 * np.arange(_SIDE) + 1) * math.pi / (2 * _SIDE)
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
    if grey.shape != (_SIDE, _SIDE):
        return _as_int(imagehash.phash(PillowImage.fromarray(grey)).hash)
    from scipy.fftpack import dct  # takes 0.3 s, and a run over texts alone needs none of it

    # What imagehash does then, without a copy to and from a picture.
    low = dct(dct(grey, axis=0), axis=1)[:_KEPT, :_KEPT]
    return _as_int(low > np.median(low))


def plane_hash(plane: npt.NDArray[np.uint8]) -> int:
    """The same of a small grey plane, in a third of the time.

    Args:
      plane: uint8[height, width].

    Returns:
      uint64. That of `picture_hash`, but where a picture has next to no detail.
    """
    lines = (weights_of("lanczos", side, _SIDE) for side in plane.shape[::-1])
    small = resampled(plane, *lines).astype(np.float32)
    # Whole numbers: what is zero but for rounding must not be told by the machine's rounding.
    low = np.rint(_DCT @ small @ _DCT.T)
    ordered = np.sort(low, axis=None)
    middle = (ordered[len(ordered) // 2 - 1] + ordered[len(ordered) // 2]) / 2
    return _as_int(low > middle)


def _as_int(bits: npt.NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
