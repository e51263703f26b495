"""A small picture of an image, to be looked at."""

from __future__ import annotations

import io

from transforms.images.displayed import displayed
from transforms.images.examine import Image, open_picture, turn_of

SIDE_PX = 192  # of the longer side, at most
_QUALITY = 80


def thumbnail(body: bytes, image: Image) -> bytes:
    """A JPEG of the picture as displayed.

    Args:
      body: the file. image: what `examine` said of it.

    Raises:
      Exception: the picture cannot be decoded after all; Pillow raises many kinds.
    """
    with turn_of(image.width * image.height):
        picture = open_picture(body, image.format)
        picture.draft("RGB", (2 * SIDE_PX, 2 * SIDE_PX))  # a JPEG decodes at a part of its size
        small = displayed(picture).convert("RGB")
        small.thumbnail((SIDE_PX, SIDE_PX))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
