"""How likely images are unsafe: what a classifier is shown of each, and its score."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import simplejpeg
from PIL import Image as PillowImage

from alignset.transforms.images.displayed_picture import Pixels
from alignset.transforms.images.examine import Image
from alignset.transforms.images.small_pixels import RULE_PX, small_pixels, squashed
from alignset.transforms.safety.classifier import open_classifier
from alignset.transforms.safety.model_files import ModelInput, UnsafeModel
from alignset.transforms.workers.unexpected import tell_once


def unsafe_scores(
    images: Sequence[tuple[bytes, Image]],
    model: UnsafeModel,
    pixels: Sequence[Pixels | None] | None = None,
) -> list[float | None]:
    """The scores of some images, as many at once as the model's classifier has a batch.

    Args:
      images: files, with what `examine` said of them. pixels: what `shown_pixels` made of each.

    Returns:
      0 to 1, to 4 digits; None where an image cannot be decoded after all, or the model has no
      number for it. No score depends on the other images.
    """
    pictures: dict[int, Pixels] = {}
    for at, (body, image) in enumerate(images):
        try:
            pictures[at] = model_pixels(body, image, model.wanted, pixels[at] if pixels else None)
        except (
            Exception
        ) as error:  # it was decoded once, in grey or whole: whatever this is, is new
            tell_once("decoding an image to score it", error)
    all_scores: list[float | None] = [None] * len(images)
    scores = open_classifier(model).scores([*pictures.values()]) if pictures else []
    for at, score in zip(pictures, scores, strict=True):
        all_scores[at] = score if math.isfinite(score) else None
    return all_scores


def model_pixels(
    body: bytes, image: Image, form: ModelInput, pixels: Pixels | None = None
) -> Pixels:
    """The image as displayed, squashed, cropped and coded as the model's reference does it.

    Args:
      body: the file. image: what `examine` said of it.
      pixels: what `shown_pixels` made of it, where that was asked for.

    Returns:
      uint8[size, size, 3], in the model's order of channels.

    Raises:
      Exception: the image cannot be decoded after all; Pillow raises many kinds.
    """
    if pixels is not None and form.size == RULE_PX:
        crop = squashed(pixels, form.resize, form.size)
    else:
        crop = small_pixels(body, image, form.resize, form.size)
    if not form.jpeg_quality:
        return crop if form.channels == "RGB" else crop[:, :, ::-1]
    file = io.BytesIO()  # the reference of some models has a JPEG here, and their scores show it
    PillowImage.fromarray(crop).save(file, "JPEG", quality=form.jpeg_quality)
    return simplejpeg.decode_jpeg(
        file.getvalue(), form.channels, fastdct=False, fastupsample=False, strict=False
    )
