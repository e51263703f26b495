"""A small picture of an image, to be looked at."""

from __future__ import annotations

import io

from transforms.images.displayed import displayed
from transforms.images.examine import Image, open_picture, turn_of

SIDE_PX = 192  # of the longer side, at most
QUALITY = 80


def thumbnail(body: bytes, image: Image, side_px: int = SIDE_PX, quality: int = QUALITY) -> bytes:
    """A JPEG of the picture as displayed.

    Args:
      body: the file. image: what `examine` said of it.
      side_px: of the longer side, at most.

    Raises:
      Exception: the picture cannot be decoded after all; Pillow raises many kinds.
    """
    with turn_of(image.width * image.height):
        picture = open_picture(body, image.format)
        # A JPEG decodes at a part of its size, whose shorter side may be somewhat larger.
        picture.draft("RGB", (side_px * 5 // 4, side_px * 5 // 4))
        small = displayed(picture).convert("RGB")
        small.thumbnail((side_px, side_px))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=quality)
    return file.getvalue()
