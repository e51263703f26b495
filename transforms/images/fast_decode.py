"""Files of the usual kinds as a viewer shows them, decoded in less time than Pillow takes.

PNGs take less than half of the time, and WebPs, which go through OpenCV, four fifths: Pillow reads
each as an animation.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from alignset.transforms.images.file_formats import is_tidy_webp, webp_canvas
from alignset.transforms.images.pixel_words import grey_of_words, over_white, words_of
from alignset.transforms.images.png_reader import png_samples
from alignset.transforms.images.resampling import Pixels

_ANIMATED_OR_ANNOTATED = 0x02 | 0x04 | 0x08  # of a WebP's flags: frames, XMP, EXIF


def fast_pixels(body: bytes, name: str) -> Pixels | None:
    """The picture as a viewer shows it, over white.

    Args:
      body: a file that is whole, as `file_fault` says. name: its format.

    Returns:
      uint8[height, width] of a grey picture, uint8[height, width, 3] (RGB) of another, bit for bit
      as `displayed` has it. None where Pillow must look at it: of another format than PNG and WebP,
      animated, with metadata that may turn it, where anything is wrong with it; and what
      `png_samples` does not take.
    """
    samples = _decoded(body, name)
    if samples is None or samples.shape[2] == 1:
        return None if samples is None else samples[:, :, 0]
    if samples.shape[2] == 4:
        samples = np.ascontiguousarray(samples)
        over_white(words_of(samples))  # in their place
        samples = _converted(samples, "RGBA2RGB")
    return samples


def fast_grey(body: bytes, name: str) -> Pixels | None:
    """uint8[height, width]: the same in grey, as Pillow's `convert("L")` has it."""
    samples = _decoded(body, name)
    if samples is None or samples.shape[2] == 1:
        return None if samples is None else samples[:, :, 0]
    if samples.shape[2] == 3:
        samples = _converted(samples, "RGB2RGBA")
    grey: Pixels = np.empty(samples.shape[:2], np.uint8)
    grey_of_words(words_of(samples), grey.reshape(-1))
    return grey


def _decoded(body: bytes, name: str) -> Pixels | None:
    """uint8[height, width, 1, 3 or 4], as the file has them, in an array of its own."""
    decode: Callable[[bytes], Pixels | None] | None = {"png": png_samples, "webp": _webp}.get(name)
    return None if decode is None else decode(body)


def _converted(samples: Pixels, way: str) -> Pixels:
    cv2 = _opencv()
    return np.asarray(cv2.cvtColor(samples, getattr(cv2, f"COLOR_{way}")), np.uint8)


def _webp(body: bytes) -> Pixels | None:
    if body[12:16] == b"VP8X" and body[20] & _ANIMATED_OR_ANNOTATED:
        return None
    if not is_tidy_webp(body):  # OpenCV would read on behind the end of a chunk
        return None
    cv2 = _opencv()
    try:
        pixels = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    if pixels is None or pixels.ndim != 3 or pixels.shape[1::-1] != webp_canvas(body):
        return None
    to_rgb = cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
    return np.asarray(cv2.cvtColor(pixels, to_rgb, pixels), np.uint8)


@lru_cache
def _opencv() -> Any:
    """OpenCV, when it is needed: it takes 0.1 s. It says nothing of broken files."""
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2
