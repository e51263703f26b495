"""Images of a PCollection to the evaluation image that each is nearest to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import apache_beam as beam

from alignset.transforms.decontamination.copy_thumbnails import stack_thumbnails
from alignset.transforms.decontamination.evaluation_index import open_index
from alignset.transforms.images.examine import Image, Unusable, examine

_IMAGES_AT_ONCE, _BYTES_AT_ONCE = 64, 1 << 25


class NearestImage(NamedTuple):
    """The evaluation image that an image is nearest to.

    Fields:
      is_copy: whether it is nearer than the least distance that is kept.
      evaluation_set, evaluation_image: their names; None where no image is near enough to compare.
      distance: 0 to 2; None there, too.
      fault: why the image cannot be decoded, as "undecodable: truncated"; None where it can.
    """

    is_copy: bool = False
    evaluation_set: str | None = None
    evaluation_image: str | None = None
    distance: float | None = None
    fault: str | None = None


def _compared(
    images: list[tuple[Any, bytes]], place: str, min_distance: float
) -> Iterator[tuple[Any, NearestImage]]:
    if not (index := open_index(place)):
        return
    looks = [examine(body, keep_grey=True) for _, body in images]
    found = iter(
        index.nearest(stack_thumbnails([look for look in looks if isinstance(look, Image)]))
    )
    nearest = [next(found) if isinstance(look, Image) else None for look in looks]
    named = index.names([near and near.row for near in nearest]).to_pylist()
    for (key, _), look, near, name in zip(images, looks, nearest, named, strict=True):
        if isinstance(look, Unusable):
            yield key, NearestImage(fault=f"{look.reason}: {look.detail}")
        elif near is None:
            yield key, NearestImage()
        else:
            is_copy = near.distance < min_distance
            yield key, NearestImage(is_copy, name["set"], name["name"], near.distance)


def _weight(image: tuple[Any, bytes]) -> int:
    return max(len(image[1]), _BYTES_AT_ONCE // _IMAGES_AT_ONCE)


@dataclass(eq=False)
class CompareImages(beam.PTransform):
    """(key, bytes of an image file) to (key, `NearestImage`).

    Args:
      place: a singleton, where the index of evaluation images is.
      min_distance: what is nearer is a copy.
    """

    place: beam.PCollection
    min_distance: float

    def expand(self, images: beam.PCollection) -> beam.PCollection:
        some = beam.BatchElements(_BYTES_AT_ONCE, _BYTES_AT_ONCE, element_size_fn=_weight)
        place = beam.pvalue.AsSingleton(self.place)
        return images | some | beam.FlatMap(_compared, place, self.min_distance)
