"""How likely images are unsafe: what a classifier is shown of each, and its score."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
import simplejpeg
from PIL import Image as PillowImage

from alignset.transforms.images.displayed_picture import Pixels
from alignset.transforms.safety.classifier import open_classifier
from alignset.transforms.safety.model_files import ModelInput, UnsafeModel

_BILINEAR = PillowImage.Resampling.BILINEAR


def unsafe_scores(pictures: Sequence[Pixels], model: UnsafeModel) -> list[float | None]:
    """The scores of some images, as many at once as the model's classifier has a batch.

    Args:
      pictures: uint8[size, size, 3] each, as `model_pixels` makes them.

    Returns:
      0 to 1, to 4 digits; None where the model has no number for it. No score depends on the other
      images.
    """
    scores = open_classifier(model).scores([*pictures]) if pictures else []
    return [score if math.isfinite(score) else None for score in scores]


def model_pixels(picture: PillowImage.Image, form: ModelInput) -> Pixels:
    """The image squashed, cropped and coded as the model's reference does it.

    Args:
      picture: as `examine` gives it with `keep_picture`.

    Returns:
      uint8[size, size, 3], in the model's order of channels.
    """
    whole, (width, height) = form.resize, picture.size
    begin = (whole - form.size) // 2
    end = begin + form.size
    box = begin * width / whole, begin * height / whole, end * width / whole, end * height / whole
    crop = picture.resize((form.size, form.size), _BILINEAR, box).convert("RGB")
    raw = crop.tobytes("raw", "BGR" if form.jpeg_quality else form.channels)
    pixels = np.frombuffer(raw, np.uint8).reshape(form.size, form.size, 3)
    if not form.jpeg_quality:
        return pixels
    # The reference of some models has a JPEG here, and their scores show it. OpenCV writes the
    # bytes of Pillow's, without the interpreter's lock.
    file = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, form.jpeg_quality])[1]
    return simplejpeg.decode_jpeg(
        file, form.channels, fastdct=False, fastupsample=False, strict=False
    )
