"""Images of a PCollection to the evaluation image that each is nearest to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from alignset.transforms.decontamination.evaluation_index import EvaluationIndex, open_index
from alignset.transforms.decontamination.overlap_measure import Look, OverlapMeasure
from alignset.transforms.images.examine import Image, examine

_IMAGES_AT_ONCE, _BYTES_AT_ONCE = 64, 1 << 25


class NearestImage(NamedTuple):
    """The evaluation image that an image is nearest to.

    Fields:
      is_copy: whether it is nearer than the least distance that is kept.
      evaluation_set, evaluation_image: their names; None where no image is near enough to compare.
      distance: in the unit of the measure; None there, too.
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
    """What each image is nearest to.

    Args:
      bodies: of the image files. min_distance: what is nearer is a copy.
    """
    images = [examine(body, in_full=True, keep_grey=True) for body in bodies]
    looks = [
        Look(body, image, in_full=True)
        for body, image in zip(bodies, images, strict=True)
        if isinstance(image, Image)
    ]
    found = iter(index.nearest(np.asarray(index.measure.features(looks))) if looks else ())
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


class _Compare(beam.DoFn):
    def __init__(self, measure: OverlapMeasure, min_distance: float) -> None:
        self.measure, self.min_distance = measure, min_distance

    def start_bundle(self) -> None:
        self.waiting: list[tuple[Any, bytes]] = []
        self.bytes, self.place = 0, ""

    def process(self, element: tuple[Any, bytes], place: str) -> Iterator[tuple[Any, NearestImage]]:
        self.place = place
        self.waiting.append(element)
        self.bytes += len(element[1])
        if len(self.waiting) == _IMAGES_AT_ONCE or self.bytes >= _BYTES_AT_ONCE:
            yield from self._found()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        yield from map(GlobalWindows.windowed_value, self._found())

    def _found(self) -> Iterator[tuple[Any, NearestImage]]:
        index = open_index(self.place, self.measure)
        if self.waiting and index is not None:
            keys, bodies = zip(*self.waiting, strict=True)
            yield from zip(keys, nearest_images(bodies, index, self.min_distance), strict=True)
        self.waiting, self.bytes = [], 0


@dataclass(eq=False)
class CompareImages(beam.PTransform):
    """(key, bytes of an image file) to (key, `NearestImage`).

    Args:
      place: a singleton, where the index of evaluation images is.
      min_distance: in the unit of the measure; what is nearer is a copy.
    """

    measure: OverlapMeasure
    place: beam.PCollection
    min_distance: float

    def expand(self, images: beam.PCollection) -> beam.PCollection:
        find = beam.ParDo(
            _Compare(self.measure, self.min_distance), beam.pvalue.AsSingleton(self.place)
        )
        return images | find
