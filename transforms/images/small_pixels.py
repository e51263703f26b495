"""A picture's pixels as small as an image model wants them, by the cheapest decode."""

from __future__ import annotations

import numpy as np

from alignset.transforms.images.displayed import displayed
from alignset.transforms.images.examine import Image, open_picture, turn_of
from alignset.transforms.images.fast_decode import fast_pixels
from alignset.transforms.images.jpeg_header import jpeg_header, scaled_jpeg
from alignset.transforms.images.resampling import Pixels, resampled, weights_of

# Of either side of what is squashed, below: a strip of 1 x 1,000,000 px is a file of 2 KB, and its
# lines of 224 samples take 0.7 GB.
_MOST_PX = 1 << 16


def small_pixels(body: bytes, image: Image, resize: int, size: int) -> Pixels:
    """The picture as displayed, squashed to a square, and the middle of that.

    Args:
      body: the file. image: what `examine` said of it.
      resize, size: px a side, of the square and of its middle.

    Returns:
      uint8[size, size, 3], RGB.

    Raises:
      Exception: the picture cannot be decoded after all; Pillow raises many kinds.
    """
    with turn_of(image.width * image.height):
        return squashed(_decoded(body, image, size), resize, size)


def _decoded(body: bytes, image: Image, smallest_px: int) -> Pixels:
    """uint8[height, width, 3], RGB as displayed; of a JPEG a half, a quarter or so of it."""
    if image.format == "jpeg":
        pixels = _scaled_jpeg(body, smallest_px)
        if pixels is not None:
            return pixels
    if max(image.width, image.height) < _MOST_PX:
        fast = fast_pixels(body, image.format)
        if fast is not None:
            return fast if fast.ndim == 3 else np.dstack([fast] * 3)
    shown = displayed(open_picture(body, image.format)).convert("RGB")
    across, down = (1 + side // _MOST_PX for side in shown.size)
    return np.asarray(shown.reduce((across, down)) if max(across, down) > 1 else shown)


def _scaled_jpeg(body: bytes, smallest_px: int) -> Pixels | None:
    """What libjpeg makes of it for less than the whole costs; None where Pillow must look at it."""
    header = jpeg_header(body)
    if header is None or header.components not in (1, 3) or not header.usual or header.annotated:
        return None
    # By halves alone: libjpeg's other eighths take as long as the whole, and are less like it.
    shorter = min(header.width, header.height)
    factor = next((n for n in (8, 4, 2) if shorter >= n * smallest_px), 1)
    try:
        # By accurate steps, which cost no more: what is not reduced is as Pillow decodes it.
        return scaled_jpeg(body, header, "RGB", header.scaled(8 // factor))
    except ValueError:
        return None


def squashed(pixels: Pixels, resize: int, size: int) -> Pixels:
    """What Pillow gives for `resize((resize, resize), BILINEAR)` and a crop of the middle.

    Bit for bit, but where a picture is over 100 times as tall as wide, of which Pillow squashes the
    columns first. In a third of its time: the rest of a photograph's way costs 1 ms, so that it is
    a matter of 3 in 100 images.

    Args:
      pixels: uint8[height, width, 3]. resize, size: px a side.

    Returns:
      uint8[size, size, 3].
    """
    height, width = pixels.shape[:2]
    begin = (resize - size) // 2
    window = (resize, begin, begin + size)
    across, down = (weights_of("bilinear", side, *window) for side in (width, height))
    return resampled(pixels, across, down)
