"""Which pairs leave a dataset since others have the same image: by their contents.

Pure functions over columns. The pairs that are held out and those to train on are two sides of a
content; what leaves is decided for each apart.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.columns.batches import batch_of
from alignset.transforms.columns.hashing import Bools, UInt64s
from alignset.transforms.columns.rejects import key_column, keys_of
from alignset.transforms.duplicates.contents import (
    BETTER,
    OF_TRAINING,
    CopyRules,
    as_binary,
    digests_of,
    starts_of,
)
from alignset.transforms.pairs.urls import url_hashes
from alignset.transforms.rules import given
from alignset.transforms.rules.popularity import MAX_TEXTS_PER_IMAGE
from alignset.transforms.shards.leaving_pairs import LEAVING
from alignset.transforms.shards.shard_places import HOLDOUT

# Why pairs leave, by the code of a verdict.
REASONS = (
    *(None, MAX_TEXTS_PER_IMAGE.reason, given.DUPLICATE_OF_TRAINING),
    *(given.DUPLICATE_IMAGE, given.DUPLICATE_IMAGE),  # of equal files; of near-duplicates
)
_STAYS, _CROWDED, _IN_TRAINING, _DUPLICATE, _NEAR = range(5)


def judge_contents(rows: pa.Table, rules: CopyRules) -> pa.RecordBatch:
    """Which contents pairs leave.

    Args:
      rows: all that `contents_of` and `near_contents` gave of these contents, in any order.

    Returns:
      a row for each shard of such a content, `hi`, `lo`. `shard`. `reason`: the place in REASONS.
      `kept`: the key of the pair whose image is kept, 0 where none is.
    """
    sides = rows.filter(pc.greater_equal(rows["shard"], 0))
    names = ("hi", "lo", "text", "key", "shard", "images")
    hi, lo, text, key, shard, images = (sides[name].to_numpy() for name in names)
    order = np.lexsort((key, shard >= HOLDOUT, lo, hi))
    hi, lo, text, key, shard, images = (of[order] for of in (hi, lo, text, key, shard, images))
    content = np.cumsum(starts_of(hi, lo)) - 1
    # A group is one side of a content. Its first row has the smallest key.
    starts = starts_of(content, shard >= HOLDOUT)
    group, first = np.cumsum(starts) - 1, np.flatnonzero(starts)
    of_group, is_held_out = content[first], shard[first] >= HOLDOUT
    by_text = np.lexsort((text, content))
    texts = np.bincount(content[by_text][starts_of(content[by_text], text[by_text])])

    # Where an image to train on leaves for a near-duplicate, its pairs say which one is kept.
    is_near, near_key = _near_keys(rows, BETTER, hi[first], lo[first])
    is_near &= ~is_held_out
    kept_key = np.where(is_near, near_key, key[first])
    has_near, near_key = _near_keys(rows, OF_TRAINING, hi[first], lo[first])
    training_key = np.zeros(len(texts), np.uint64)
    training_key[of_group[~is_held_out]] = kept_key[~is_held_out]
    in_training = np.zeros(len(texts), np.bool_)
    in_training[of_group[~is_held_out]] = True
    training_key = np.where(in_training[of_group], training_key[of_group], near_key)

    is_double = np.bincount(group, images, len(first)) > 1
    reason = np.where(is_double & rules.once, _DUPLICATE, _STAYS)
    reason = np.where(is_near, _NEAR, reason)
    of_training = is_held_out & (in_training[of_group] | has_near) & rules.clean_holdout
    reason = np.where(of_training, _IN_TRAINING, reason)
    kept_key = np.where(of_training, training_key, kept_key)
    is_crowded = (texts > rules.max_texts)[of_group]
    reason = np.where(is_crowded, _CROWDED, reason)
    kept_key = np.where(is_crowded, np.uint64(0), kept_key)

    by_shard = np.lexsort((shard, group))
    at = by_shard[starts_of(group[by_shard], shard[by_shard])]
    at = at[reason[group[at]] != _STAYS]
    columns = {"hi": hi[at], "lo": lo[at], "shard": shard[at]}
    return batch_of(columns | {"reason": reason[group[at]], "kept": kept_key[group[at]]})


def _near_keys(rows: pa.Table, kind: int, hi: UInt64s, lo: UInt64s) -> tuple[Bools, UInt64s]:
    """bool[n], which contents `near_contents` tells of, and for which pair each leaves."""
    near = rows.filter(pc.equal(rows["shard"], kind)).sort_by("key")
    contents = as_binary(near["hi"].to_numpy(), near["lo"].to_numpy())
    at = pc.index_in(as_binary(hi, lo), contents)
    keys = pc.fill_null(near["key"].combine_chunks().take(at), 0).to_numpy(zero_copy_only=False)
    return at.is_valid().to_numpy(zero_copy_only=False), keys


def leaving_pairs(rows: pa.Table, verdicts: pa.Table | pa.RecordBatch) -> pa.Table:
    """Pairs that leave a shard, by the verdicts on its contents, as LEAVING. The pairs of a
    duplicate image stay if they have the URL of its pair with the smallest key.

    Args:
      rows: of the sidecar, `key`, `url` and `sha256`. verdicts: of this shard.
    """
    rows = rows.filter(rows["sha256"].is_valid()).combine_chunks()
    contents = as_binary(verdicts["hi"].to_numpy(), verdicts["lo"].to_numpy())
    at = pc.index_in(as_binary(*digests_of(rows["sha256"])), contents)
    rows, at = rows.filter(at.is_valid()).combine_chunks(), at.drop_null().to_numpy()
    keys = keys_of(rows["key"])
    urls = url_hashes(rows["url"].combine_chunks())[0] if len(rows) else keys
    reasons, kept = verdicts["reason"].to_numpy()[at], verdicts["kept"].to_numpy()[at]
    is_kept = keys == kept
    kept_urls = np.zeros(len(verdicts), np.uint64)
    kept_urls[at[is_kept]] = urls[is_kept]
    has_kept = np.zeros(len(verdicts), np.bool_)
    has_kept[at[is_kept]] = True
    leaves = (reasons != _DUPLICATE) | ~has_kept[at] | (urls != kept_urls[at])
    keys, reasons, kept = keys[leaves], reasons[leaves], kept[leaves]
    columns = {
        "key": pa.array(keys),
        "reason": pa.array([REASONS[code] for code in reasons.tolist()], pa.string()),
        "detail": pc.if_else(pa.array(kept != 0), key_column(kept), pa.scalar(None, pa.string())),
        "near": pa.array(reasons == _NEAR),
    }
    return pa.table(columns, schema=LEAVING)
