"""imagehash's perceptual hash, of images and, in less time, of small grey thumbnails."""

import math
from functools import lru_cache
from types import ModuleType

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

_SIDE, _KEPT = 32, 8  # imagehash.phash: an image of 32 px a side, of whose DCT 8 x 8 are kept
_LARGE_PX = 224  # of the shorter side of most JPEGs as they are decoded
_SMALL_PX = 112  # of either side of these, at least, when lines were averaged
_ANGLES = np.outer(np.arange(_KEPT), 2 * np.arange(_SIDE) + 1) * math.pi / (2 * _SIDE)
_DCT = (2 * np.cos(_ANGLES)).astype(np.float32)  # float32[8, 32]
_LANCZOS = PillowImage.Resampling.LANCZOS


def picture_hash(picture: PillowImage.Image) -> int:
    """`imagehash.phash` of an image as uint64, the most significant bit first."""
    return _bits_to_int(imagehash.phash(picture).hash)


@lru_cache(1)
def _opencv() -> ModuleType:
    import cv2  # 0.1 s, for commands that decode nothing

    cv2.setNumThreads(1)  # workers have threads of their own, and some are forked
    return cv2


def jpeg_grey(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """uint8[height, width] of grey or RGB pixels."""
    if pixels.ndim == 2:
        return pixels
    return np.asarray(_opencv().cvtColor(pixels, _opencv().COLOR_RGB2GRAY), np.uint8)


def jpeg_hash(grey: npt.NDArray[np.uint8]) -> int:
    """The same of a JPEG in grey, uint8[height, width], in less time. A larger one is shrunk by
    whole factors first, and not rounded between the filter of Pillow and the DCT."""
    height, width = grey.shape
    if min(height, width) < _LARGE_PX:
        return thumbnail_hash(grey)
    cv2 = _opencv()
    down, across = height // _SMALL_PX, width // _SMALL_PX
    below, right = -height % down, -width % across  # without these OpenCV takes ten times as long
    if below or right:
        edges = 0, below, 0, right
        grey = np.asarray(cv2.copyMakeBorder(grey, *edges, cv2.BORDER_REPLICATE), np.uint8)
    size = grey.shape[1] // across, grey.shape[0] // down
    thumbnail = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    lines = (_low_waves(len(thumbnail), height / down) @ thumbnail).astype(np.float64)
    return _hash_of(np.rint(lines @ _low_waves(thumbnail.shape[1], width / across).T))


@lru_cache(1024)
def _low_waves(count: int, extent: float) -> npt.NDArray[np.float32]:
    """float32[8, count]: the filter from so many px to 32, and their DCT; `extent` is less than
    `count` where the last px is a part."""
    one_each = PillowImage.fromarray(np.eye(count, dtype=np.float32))
    return _DCT @ np.asarray(one_each.resize((_SIDE, count), _LANCZOS, (0, 0, extent, count))).T


def thumbnail_hash(thumbnail: npt.NDArray[np.uint8]) -> int:
    """The same of a small grey thumbnail, in a third of the time.

    Args:
      thumbnail: uint8[height, width].

    Returns:
      uint64, as `picture_hash` has it, except where an image has next to no detail.
    """
    # Rows first, in two steps: Pillow would resize the columns of a tall image first.
    lines = PillowImage.fromarray(thumbnail).resize((_SIDE, len(thumbnail)), _LANCZOS)
    small = np.asarray(lines.resize((_SIDE, _SIDE), _LANCZOS), np.float32)
    # Whole numbers: what is zero but for rounding must not be told by the machine's rounding.
    return _hash_of(np.rint(_DCT @ small @ _DCT.T))


def _hash_of(low: npt.NDArray[np.floating]) -> int:
    values = np.sort(low, axis=None)
    middle = (values[len(values) // 2 - 1] + values[len(values) // 2]) / 2
    return _bits_to_int(low > middle)


def _bits_to_int(bits: npt.NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
