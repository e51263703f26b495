"""Small images of the dropped pairs of a shard that a report shows as examples."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from alignset.transforms.columns.records import THUMBNAIL_PX, key_hashes, least_rows, nearest_rows
from alignset.transforms.images.thumbnail import thumbnail
from alignset.transforms.rules.catalogue import limits
from alignset.transforms.rules.verdicts import values_of
from alignset.transforms.shards.shard_images import rule_rows
from alignset.transforms.shards.shard_pairs import ShardPairs
from alignset.transforms.workers.unexpected import tell_once

QUALITY = 75
_MOST_PIXELS = 1 << 23  # of an image that is not a JPEG, whose thumbnail would take 0.1 s
_MOST_BYTES = 1 << 13  # of a thumbnail, which has 2,500


def example_thumbnails(pairs: ShardPairs) -> pa.BinaryArray:
    """Draws JPEGs of the images that rules drop, so of none that its owner or a list keeps out:
    `--thumbnails` of each rule by the hashes of their keys, and half as many nearest to its
    threshold.

    Returns:
      binary[n]; the other rows keep the thumbnail that they have, or null.
    """
    thumbnails: list[bytes | None] = [None] * len(pairs.reasons)
    if "thumbnail" in pairs.measures:
        thumbnails = pairs.measures["thumbnail"].to_pylist()
    if count := pairs.images.settings.thumbnails:
        for row in _chosen_rows(pairs, count):
            thumbnails[row] = thumbnails[row] or _thumbnail(pairs, row)
    return pa.array(thumbnails, pa.binary())


def _chosen_rows(pairs: ShardPairs, count: int) -> list[int]:
    rules, hashes = pairs.rules, key_hashes(pairs.keys)
    rows = rule_rows(pairs.sizes, pairs.measures, rules.columns)
    reasons, chosen_rows = np.array(pairs.reasons, object), set()
    for limit in limits(rules.images):
        dropped = np.flatnonzero(reasons == limit.reason)
        ranks = np.abs(values_of(limit, rows) - rules.numbers[limit.name])
        chosen_rows.update(least_rows(hashes, dropped, count).tolist())
        chosen_rows.update(nearest_rows(ranks, hashes, dropped, max(1, count // 2)).tolist())
    return sorted(chosen_rows)


def _thumbnail(pairs: ShardPairs, row: int) -> bytes | None:
    look = pairs.look(row)
    if look is None or (look.format != "jpeg" and look.width * look.height > _MOST_PIXELS):
        return None
    try:
        body = thumbnail(*pairs.stored_file(row), THUMBNAIL_PX, QUALITY)
    except Exception as error:  # the pair is what it is all the same
        tell_once("making a thumbnail", error)
        return None
    return body if len(body) <= _MOST_BYTES else None
