"""An image's pixels as small as an image model wants them, by the cheapest decode."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image as PillowImage

from alignset.transforms.images.decode import decoded_picture, turn_of
from alignset.transforms.images.displayed_picture import Pixels
from alignset.transforms.images.examine import Image
from alignset.transforms.images.jpeg_header import JpegHeader
from alignset.transforms.images.scaled_jpeg import scaled_jpeg
from alignset.transforms.workers.unexpected import tell_once

_BILINEAR = PillowImage.Resampling.BILINEAR
# Of either side of what is squashed, below: a strip of 1 x 1,000,000 px is a file of 2 KB, and its
# lines of 224 samples take 0.7 GB.
_MOST_PX = 1 << 16


MOST_SHOWN = 1 << 26  # bytes of a group of images; the largest image alone has three times that
_SHOWN_AT_ONCE = 32
RULE_PX = 224  # of the shorter side of what rules of users are shown, at least, if it has as many


def shown_pixels(body: bytes, image: Image, smallest_px: int = RULE_PX) -> Pixels:
    """The image as displayed: uint8[height, width, 3], RGB; of a JPEG a half, a quarter or an
    eighth, whose shorter side has as many px or more.

    Raises:
      Exception: the image cannot be decoded after all; Pillow raises many kinds.
    """
    with turn_of(image.width * image.height):
        return _decoded(body, image, smallest_px)


def shown_in_groups(images: Iterable[tuple[bytes, Image]]) -> Iterator[list[Pixels | None]]:
    """The `shown_pixels` of each file in turn, None where it cannot be decoded after all.

    A group ends at 32 images, or with the image that brings it to `MOST_SHOWN` bytes: so memory
    depends on the largest image, and not on their number.
    """
    group: list[Pixels | None] = []
    group_bytes = 0
    for body, image in images:
        try:
            pixels = shown_pixels(body, image)
        except Exception as error:  # it was decoded once: whatever this is, is new
            tell_once("decoding an image for a rule", error)
            group.append(None)
        else:
            group.append(pixels)
            group_bytes += pixels.nbytes
        if group_bytes >= MOST_SHOWN or len(group) == _SHOWN_AT_ONCE:
            yield group
            group, group_bytes = [], 0
    if group:
        yield group


def small_pixels(body: bytes, image: Image, resize: int, size: int) -> Pixels:
    """The image as displayed, squashed to a square, and the middle of that.

    Args:
      body: the file. image: what `examine` said of it.
      resize, size: px a side, of the square and of its middle.

    Returns:
      uint8[size, size, 3], RGB.

    Raises:
      Exception: the image cannot be decoded after all; Pillow raises many kinds.
    """
    with turn_of(image.width * image.height):
        return squashed(_decoded(body, image, size), resize, size)


def _decoded(body: bytes, image: Image, smallest_px: int) -> Pixels:
    """uint8[height, width, 3], RGB as displayed; of a JPEG a half, a quarter or so of it."""
    if image.jpeg and (pixels := _scaled_jpeg(body, image.jpeg, smallest_px)) is not None:
        return pixels
    display = decoded_picture(body, image.format, image.width * image.height).convert("RGB")
    across, down = (1 + side // _MOST_PX for side in display.size)
    return np.asarray(display.reduce((across, down)) if max(across, down) > 1 else display)


def _scaled_jpeg(body: bytes, header: JpegHeader, smallest_px: int) -> Pixels | None:
    """Pixels from libjpeg for less than a whole decode; None where Pillow must decode it."""
    if header.annotated:
        return None
    # By halves alone: libjpeg's other eighths take as long as the whole, and are less like it.
    shorter = min(header.width, header.height)
    factor = next((n for n in (8, 4, 2) if shorter >= n * smallest_px), 1)
    try:
        # By accurate steps, which cost no more: what is not reduced is as Pillow decodes it.
        return scaled_jpeg(body, header, "RGB", header.scaled_size(8 // factor))
    except ValueError:
        return None


def squashed(pixels: Pixels, resize: int, size: int) -> Pixels:
    """The middle of an image that is squashed to a square.

    Args:
      pixels: uint8[height, width, 3]. resize, size: px a side, of the square and of its middle.

    Returns:
      uint8[size, size, 3].
    """
    square = PillowImage.fromarray(pixels).resize((resize, resize), _BILINEAR)
    begin = (resize - size) // 2
    return np.asarray(square)[begin : begin + size, begin : begin + size]
