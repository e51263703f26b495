"""How likely images are unsafe."""

from __future__ import annotations

import math
from collections.abc import Sequence

from alignset.transforms.images.displayed_picture import Pixels
from alignset.transforms.images.examine import Image
from alignset.transforms.safety.classifier import open_classifier
from alignset.transforms.safety.model_files import UnsafeModel
from alignset.transforms.safety.model_pixels import model_pixels
from alignset.transforms.workers.unexpected import tell_once


def unsafe_scores(
    images: Sequence[tuple[bytes, Image]],
    model: UnsafeModel,
    shown: Sequence[Pixels | None] | None = None,
) -> list[float | None]:
    """The scores of some images, as many at once as the model's classifier has a batch.

    Args:
      images: files, with what `examine` said of them. shown: what `shown_pixels` made of each.

    Returns:
      0 to 1, to 4 digits; None where an image cannot be decoded after all, or the model has no
      number for it. No score depends on the other images.
    """
    pixels = shown or [None] * len(images)
    pictures = [_pixels(*of, model, own) for of, own in zip(images, pixels, strict=True)]
    seen = [picture for picture in pictures if picture is not None]
    scores = iter(open_classifier(model).scores(seen) if seen else ())
    found = [None if picture is None else next(scores) for picture in pictures]
    return [score if score is not None and math.isfinite(score) else None for score in found]


def _pixels(body: bytes, image: Image, model: UnsafeModel, shown: Pixels | None) -> Pixels | None:
    try:
        return model_pixels(body, image, model.wanted, shown)
    except Exception as error:  # it was decoded once, in grey or whole: whatever this is, is new
        tell_once("decoding an image to score it", error)
        return None
