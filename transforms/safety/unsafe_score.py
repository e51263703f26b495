"""How likely images are unsafe, and which are dropped for it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.columns import reasons as r
from alignset.transforms.images.displayed_picture import Pixels
from alignset.transforms.images.examine import Image
from alignset.transforms.safety.classifier import open_classifier
from alignset.transforms.safety.model_files import UnsafeModel
from alignset.transforms.safety.model_pixels import model_pixels
from alignset.transforms.workers.unexpected import tell_once


def unsafe_scores(images: Sequence[tuple[bytes, Image]], model: UnsafeModel) -> list[float | None]:
    """The scores of some images, as many at once as the model's classifier has a batch.

    Args:
      images: files, with what `examine` said of them.

    Returns:
      0 to 1, to 4 digits; None where an image cannot be decoded after all, or the model has no
      number for it. No score depends on the other images.
    """
    pictures = [_pixels(body, image, model) for body, image in images]
    seen = [picture for picture in pictures if picture is not None]
    scores = iter(open_classifier(model).scores(seen) if seen else ())
    found = [None if picture is None else next(scores) for picture in pictures]
    return [score if score is not None and math.isfinite(score) else None for score in found]


def _pixels(body: bytes, image: Image, model: UnsafeModel) -> Pixels | None:
    try:
        return model_pixels(body, image, model.wanted)
    except Exception as error:  # it was decoded once, in grey or whole: whatever this is, is new
        tell_once("decoding an image to score it", error)
        return None


def unsafe_reasons(scores: pa.Array, *, max_score: float) -> pa.StringArray:
    """Why each image is dropped by its score, or null.

    Args:
      scores: float64[n], 0 to 1; null where there is none, which is no reason here.
      max_score: an image with a higher one goes.

    Source: ALIGN (Jia et al., 2021), section 3 removes pornographic images; by which classifier,
      and above which score, it does not say.
    """
    unsafe = pc.greater(scores, max_score)
    return pc.if_else(pc.fill_null(unsafe, False), r.UNSAFE, pa.scalar(None, pa.string()))
