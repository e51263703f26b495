"""A small image of an image, to be looked at."""

from __future__ import annotations

import io

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
