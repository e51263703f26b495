"""Small images of pairs that rules drop, in `rejected/`."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from alignset.transforms.arrivals.images import Images
from alignset.transforms.columns.records import THUMBNAIL_PX, key_hashes, least_rows, nearest_rows
from alignset.transforms.images.thumbnail import thumbnail
from alignset.transforms.rules.catalogue import limits
from alignset.transforms.rules.overlap import MIN_EVALUATION_DISTANCE
from alignset.transforms.rules.rule import Rows
from alignset.transforms.rules.rule_settings import RuleSettings
from alignset.transforms.rules.verdicts import numbers_of, size_rows, values_of
from alignset.transforms.workers.unexpected import tell_once

QUALITY = 75
_MOST_PIXELS = 1 << 23  # of an image that is not a JPEG, whose thumbnail would take 0.1 s
_MOST_BYTES = 1 << 13  # of a thumbnail, which has 2,500


def rule_rows(pairs: pa.Table, rules: RuleSettings) -> Rows:
    """Values of n pairs that the rules of images judge."""
    rows = size_rows(*(pairs[f"original_{side}"].to_pylist() for side in ("width", "height")))
    for name in ("unsafe_score", "evaluation_distance", *rules.computed_columns):
        known = pairs[name].combine_chunks() if name in pairs.column_names else None
        rows[name] = np.full(len(pairs), np.nan) if known is None else numbers_of(known)
    return rows


def dropped_thumbnails(
    pairs: pa.Table, images: Images, rules: RuleSettings, count: int
) -> pa.BinaryArray:
    """binary[n], JPEGs of all copies of evaluation images, and of a few examples of each other
    rule: `count` by the hashes of their keys, and half as many nearest to its threshold. Null
    elsewhere, so where an owner or a list keeps an image out."""
    hashes, rows = key_hashes(pairs["key"].to_numpy()), rule_rows(pairs, rules)
    reasons = np.array(pairs["reason"].to_pylist(), object)
    thumbnails: list[bytes | None] = [None] * len(pairs)
    for limit in limits(rules.catalogue.images):
        is_copy = limit.reason == MIN_EVALUATION_DISTANCE.reason
        chosen_rows = dropped = np.flatnonzero(reasons == limit.reason)
        if not is_copy:
            ranks = np.abs(values_of(limit, rows) - rules.numbers[limit.name])
            near = nearest_rows(ranks, hashes, dropped, (count + 1) // 2)
            chosen_rows = np.union1d(least_rows(hashes, dropped, count), near)
        for row in chosen_rows.tolist():
            try:
                body, image = images.stored_file(pairs["image"][row].as_py())
                if is_copy:
                    thumbnails[row] = thumbnail(body)
                elif image.format == "jpeg" or image.width * image.height <= _MOST_PIXELS:
                    small = thumbnail(body, THUMBNAIL_PX, QUALITY)
                    thumbnails[row] = small if len(small) <= _MOST_BYTES else None
            except Exception as error:  # the pair is dropped all the same
                tell_once("making a thumbnail", error)
    return pa.array(thumbnails, pa.binary())
