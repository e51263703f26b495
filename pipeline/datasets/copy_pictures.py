"""Facts about copies in a dataset, from a few of its images: the largest groups of equal files as
images, and how many with an equal perceptual hash show one image.
"""

from __future__ import annotations

import base64

from alignset.pipeline.datasets.copy_groups import CopyPictures, GroupPicture
from alignset.pipeline.datasets.stored_images import stored_image
from alignset.transforms.columns.records import THUMBNAIL_PX
from alignset.transforms.decontamination.copy_index import plane_distance
from alignset.transforms.images.examine import Image, examine
from alignset.transforms.images.thumbnail import thumbnail
from alignset.transforms.rules.overlap import COPY_DISTANCE
from alignset.transforms.shards.descriptors import plane_of
from alignset.transforms.shards.shard_places import ShardPlaces
from alignset.transforms.shards.shard_stats import Copies, NearDuplicates
from alignset.transforms.workers.unexpected import tell_once


def look_at_copies(out: str, copies: Copies) -> CopyPictures:
    """Reads the images of the largest groups and of the pairs to compare, out of shards that still
    have the numbers that they were found with."""
    groups = []
    for group in copies.groups:
        body = _image_at(out, (group.shard, group.key))
        groups.append(GroupPicture(group.images, group.content, _picture(body)))
    answers = [
        _are_alike(_image_at(out, pair.first), _image_at(out, pair.second))
        for pair in copies.near_pairs
    ]
    if copies.distances:  # near-duplicates were looked for, and left but for graphics
        return CopyPictures(groups, NearDuplicates(copies.graphics, 0, 0, copies.distances))
    verdicts = [alike for alike in answers if alike is not None]
    return CopyPictures(groups, NearDuplicates(copies.near, len(verdicts), sum(verdicts)))


def _image_at(out: str, place: tuple[int, str]) -> bytes | None:
    shard, key = place
    return stored_image(ShardPlaces(out).tar(shard), key)


def _picture(body: bytes | None) -> str:
    image = examine(body or b"")
    if body is None or not isinstance(image, Image):
        return ""
    try:
        return base64.b64encode(thumbnail(body, image, THUMBNAIL_PX, 75)).decode()
    except Exception as error:  # the group is told of without it
        tell_once("making a thumbnail", error)
        return ""


def _are_alike(first: bytes | None, second: bytes | None) -> bool | None:
    """Whether two images show one image; None where one cannot be read."""
    looks = [examine(body or b"", in_full=True, keep_grey=True) for body in (first, second)]
    planes = [plane_of(look) for look in looks if isinstance(look, Image)]
    if len(planes) < len(looks):
        return None
    return plane_distance(*planes) < COPY_DISTANCE
