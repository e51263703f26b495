"""Small images of pairs that rules drop, in `rejected/`."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from alignset.transforms.columns.records import THUMBNAIL_PX, key_hashes, least_rows, nearest_rows
from alignset.transforms.images.thumbnail import thumbnail
from alignset.transforms.rules.catalogue import limits
from alignset.transforms.rules.overlap import MIN_EVALUATION_DISTANCE
from alignset.transforms.rules.verdicts import values_of
from alignset.transforms.shards.shard_images import rule_rows
from alignset.transforms.shards.shard_pairs import ShardPairs
from alignset.transforms.workers.unexpected import tell_once

QUALITY = 75
_MOST_PIXELS = 1 << 23  # of an image that is not a JPEG, whose thumbnail would take 0.1 s
_MOST_BYTES = 1 << 13  # of a thumbnail, which has 2,500


def dropped_thumbnails(pairs: ShardPairs) -> pa.BinaryArray:
    """binary[n], JPEGs of all copies of evaluation images, and of a few examples of each other
    rule: `--thumbnails` by the hashes of their keys, and half as many nearest to its threshold.
    Null elsewhere, so where an owner or a list keeps an image out."""
    rules, hashes = pairs.rules, key_hashes(pairs.keys)
    rows = rule_rows(pairs.sizes, pairs.measures, rules.computed_columns)
    reasons, count = np.array(pairs.reasons, object), pairs.images.settings.thumbnails
    thumbnails: list[bytes | None] = [None] * len(reasons)
    for limit in limits(rules.catalogue.images):
        chosen_rows = dropped = np.flatnonzero(reasons == limit.reason)
        if limit.reason != MIN_EVALUATION_DISTANCE.reason:
            ranks = np.abs(values_of(limit, rows) - rules.numbers[limit.name])
            near = nearest_rows(ranks, hashes, dropped, (count + 1) // 2)
            chosen_rows = np.union1d(least_rows(hashes, dropped, count), near)
        for row in chosen_rows.tolist():
            try:
                thumbnails[row] = _thumbnail(pairs, row)
            except Exception as error:  # the pair is dropped all the same
                tell_once("making a thumbnail", error)
    return pa.array(thumbnails, pa.binary())


def _thumbnail(pairs: ShardPairs, row: int) -> bytes | None:
    body, image = pairs.stored_file(row)
    if pairs.reasons[row] == MIN_EVALUATION_DISTANCE.reason:
        return thumbnail(body)
    if image.format != "jpeg" and image.width * image.height > _MOST_PIXELS:
        return None
    small = thumbnail(body, THUMBNAIL_PX, QUALITY)
    return small if len(small) <= _MOST_BYTES else None
