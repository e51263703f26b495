"""Images of a PCollection to the evaluation image that each is nearest to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import apache_beam as beam

from alignset.transforms.decontamination.copy_planes import image_planes
from alignset.transforms.decontamination.evaluation_index import EvaluationIndex, open_index
from alignset.transforms.images.examine import Image, examine

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


def nearest_images(
    bodies: Sequence[bytes], index: EvaluationIndex, min_distance: float
) -> list[NearestImage]:
    """The nearest evaluation image of each image.

    Args:
      bodies: of the image files. min_distance: what is nearer is a copy.
    """
    images = [examine(body, keep_grey=True) for body in bodies]
    found = iter(index.nearest(image_planes([of for of in images if isinstance(of, Image)])))
    nearest = [next(found) if isinstance(image, Image) else None for image in images]
    named = index.names([near and near.row for near in nearest]).to_pylist()
    return [
        NearestImage(fault=f"{image.reason}: {image.detail}")
        if not isinstance(image, Image)
        else NearestImage()
        if near is None
        else NearestImage(near.distance < min_distance, name["set"], name["name"], near.distance)
        for image, near, name in zip(images, nearest, named, strict=True)
    ]


def _compared(
    images: list[tuple[Any, bytes]], place: str, min_distance: float
) -> Iterator[tuple[Any, NearestImage]]:
    if index := open_index(place):
        keys, bodies = zip(*images, strict=True)
        yield from zip(keys, nearest_images(bodies, index, min_distance), strict=True)


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
