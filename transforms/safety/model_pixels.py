"""What a classifier is shown of an image: its pixels, as small as the model wants them."""

from __future__ import annotations

import io

import simplejpeg
from PIL import Image as PillowImage

from alignset.transforms.images.displayed_picture import Pixels
from alignset.transforms.images.examine import Image
from alignset.transforms.images.small_pixels import RULE_PX, small_pixels, squashed
from alignset.transforms.safety.model_files import ModelInput


def model_pixels(
    body: bytes, image: Image, wanted: ModelInput, shown: Pixels | None = None
) -> Pixels:
    """The picture as displayed, squashed, cropped and coded as the model's reference does it.

    Args:
      body: the file. image: what `examine` said of it.
      shown: what `shown_pixels` made of it, where that was asked for.

    Returns:
      uint8[size, size, 3], in the model's order of channels.

    Raises:
      Exception: the picture cannot be decoded after all; Pillow raises many kinds.
    """
    if shown is not None and wanted.size == RULE_PX:
        cropped = squashed(shown, wanted.resize, wanted.size)
    else:
        cropped = small_pixels(body, image, wanted.resize, wanted.size)
    if wanted.jpeg_quality:
        return _recoded(cropped, wanted.jpeg_quality, wanted.channels)
    return cropped if wanted.channels == "RGB" else cropped[:, :, ::-1]


def _recoded(pixels: Pixels, quality: int, channels: str) -> Pixels:
    """The same through a JPEG, which the reference of some models has, and their scores show."""
    file = io.BytesIO()
    PillowImage.fromarray(pixels).save(file, "JPEG", quality=quality)
    return simplejpeg.decode_jpeg(
        file.getvalue(), channels, fastdct=False, fastupsample=False, strict=False
    )
