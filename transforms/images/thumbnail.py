"""A small image of an image, to be looked at."""

from __future__ import annotations

import io

from PIL import Image as PillowImage

from alignset.transforms.images.decode import decoded_picture, turn_of
from alignset.transforms.images.displayed_picture import displayed_picture
from alignset.transforms.images.examine import Image
from alignset.transforms.images.open_picture import open_picture

SIDE_PX = 192  # of the longer side, at most
QUALITY = 80


def thumbnail(body: bytes, image: Image, side_px: int = SIDE_PX, quality: int = QUALITY) -> bytes:
    """A JPEG of the image as displayed.

    Args:
      body: the file. image: what `examine` said of it.
      side_px: of the longer side, at most.

    Raises:
      Exception: the image cannot be decoded after all; Pillow raises many kinds.
    """
    file = io.BytesIO()
    small_picture(body, image, (side_px, side_px), 1.25).save(file, "JPEG", quality=quality)
    return file.getvalue()


def small_picture(
    body: bytes, image: Image, box: tuple[int, int], times: float = 2
) -> PillowImage.Image:
    """Decode an image as displayed, in RGB, and shrink it to fit a box.

    Every scaled decode by Pillow goes through here, and `examine` has refused the frames of JPEGs
    for which such a decode writes beyond its memory.

    Args:
      body: the file. image: what `examine` said of it.
      box: px, width and height.
      times: a JPEG may decode at a part of its size that is so many times the box.

    Raises:
      Exception: the image cannot be decoded after all; Pillow raises many kinds.
    """
    with turn_of(image.width * image.height):
        if image.format == "jpeg":
            picture = open_picture(body, "jpeg")
            picture.draft("RGB", (int(box[0] * times), int(box[1] * times)))
            small = displayed_picture(picture).convert("RGB")
        else:
            whole = decoded_picture(body, image.format, image.width * image.height)
            small = whole.convert("RGB")
        small.thumbnail(box)
    return small
