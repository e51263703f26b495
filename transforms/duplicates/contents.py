"""The contents of a shard's images, by which those with the same bytes are found in all shards, and
which pairs leave a dataset since others have the same image.

Pure functions over columns. A content is the first 128 bits of an image's SHA-256. The pairs that
are held out and those to train on are two sides of a content; what leaves is decided for each
apart.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.arrivals.image_settings import ImageSettings
from alignset.transforms.columns.hashing import Bools, UInt64s
from alignset.transforms.columns.records import key_column, keys_of
from alignset.transforms.pairs.texts import measure_texts
from alignset.transforms.pairs.urls import url_hashes
from alignset.transforms.rules import given
from alignset.transforms.rules.thresholds import MAX_TEXTS_PER_IMAGE
from alignset.transforms.shards.leaving_pairs import LEAVING
from alignset.transforms.shards.shard_places import HOLDOUT
from alignset.transforms.storage.blocks import batch_of

Ints = npt.NDArray[np.int64]
# What is read of a sidecar.
COLUMNS = ("key", "url", "caption", "sha256")
# In place of a shard: what is held out has a near-duplicate in training, and what is to train on
# has a better one that looks like it.
OF_TRAINING, BETTER = -1, -2


def digests_of(sha256: pa.ChunkedArray | pa.Array) -> tuple[UInt64s, UInt64s]:
    """The contents of SHA-256 in hex, none null: two uint64[n]."""
    words = np.frombuffer(bytes.fromhex("".join(sha256.to_pylist())), ">u8").astype(np.uint64)
    words = words.reshape(-1, 4)
    return words[:, 0].copy(), words[:, 1].copy()


def starts_of(*columns: npt.NDArray[np.generic]) -> Bools:
    """bool[n], where the rows of sorted columns differ from the row before."""
    starts = np.ones(len(columns[0]), np.bool_)
    starts[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return starts


def ranks(starts: Bools) -> Ints:
    """int64[n], the place of each row behind the last start.

    >>> ranks(np.array([True, False, False, True, False])).tolist()
    [0, 1, 2, 0, 1]
    """
    rows = np.arange(len(starts))
    return rows - np.maximum.accumulate(np.where(starts, rows, 0))


def join_halves(hi: UInt64s, lo: UInt64s) -> pa.FixedSizeBinaryArray:
    whole = pa.py_buffer(np.stack([hi, lo], axis=1))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(hi), [None, whole])


def contents_of(shard: int, rows: pa.Table, max_texts: int) -> pa.RecordBatch:
    """The contents of a shard's images, each with a few of its alt-texts.

    A content has one row for each alt-text, and at most `max_texts` + 1 rows however many pairs
    it has: by them alone it is judged, so no content is large in a shuffle.

    Args:
      rows: of the sidecar, with COLUMNS.

    Returns:
      `hi`, `lo`: the content. `text`: the hash of its identity. `key`: of the pair, the smallest of
      this alt-text. `shard`. `images`: how many URLs the shard has of the content, on its first
      row, which has its smallest key; else 0.
    """
    if max_texts == MAX_TEXTS_PER_IMAGE.opened:
        max_texts = 1  # nothing goes for them
    rows = rows.filter(rows["sha256"].is_valid()).combine_chunks()
    hi, lo = digests_of(rows["sha256"])
    captions, keys = rows["caption"].combine_chunks(), keys_of(rows["key"])
    text = measure_texts(captions, np.zeros(len(rows), np.bool_)).hash if len(rows) else keys
    url = url_hashes(rows["url"].combine_chunks())[0] if len(rows) else keys

    by_text = np.lexsort((keys, text, lo, hi))
    of_text = by_text[starts_of(hi[by_text], lo[by_text], text[by_text])]
    by_key = of_text[np.lexsort((keys[of_text], lo[of_text], hi[of_text]))]
    picks = by_key[ranks(starts_of(hi[by_key], lo[by_key])) <= max_texts]
    first = starts_of(hi[picks], lo[picks])

    by_url = np.lexsort((url, lo, hi))
    is_image = starts_of(hi[by_url], lo[by_url], url[by_url])
    content = np.cumsum(starts_of(hi[by_url], lo[by_url])) - 1
    images = np.bincount(content[is_image], minlength=1)[np.cumsum(first) - 1] * first
    columns = {"hi": hi, "lo": lo, "text": text, "key": keys}
    return batch_of(
        {name: column[picks] for name, column in columns.items()}
        | {"shard": np.full(len(picks), shard), "images": images}
    )


def near_contents(hi: UInt64s, lo: UInt64s, keys: UInt64s, kind: int) -> pa.RecordBatch:
    """Rows for `judge_contents` of contents that have a near-duplicate in training, whose keys
    these are.

    Args:
      kind: OF_TRAINING or BETTER.
    """
    none = np.zeros(len(hi), np.uint64)
    no_shard, counts = np.full(len(hi), kind), np.zeros(len(hi), np.int64)
    columns = {"hi": hi, "lo": lo, "text": none, "key": keys}
    return batch_of(columns | {"shard": no_shard, "images": counts})


# Why pairs leave, by the code of a verdict.
REASONS = (
    *(None, MAX_TEXTS_PER_IMAGE.reason, given.DUPLICATE_OF_TRAINING),
    *(given.DUPLICATE_IMAGE, given.DUPLICATE_IMAGE),  # of equal files; of near-duplicates
)
_STAYS, _CROWDED, _IN_TRAINING, _DUPLICATE, _NEAR = range(5)


def judge_contents(rows: pa.Table, settings: ImageSettings) -> pa.RecordBatch:
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
    reason = np.where(is_double & (settings.duplicates != "keep"), _DUPLICATE, _STAYS)
    reason = np.where(is_near, _NEAR, reason)
    of_training = is_held_out & (in_training[of_group] | has_near)
    of_training &= settings.holdout_copies == "drop"
    reason = np.where(of_training, _IN_TRAINING, reason)
    kept_key = np.where(of_training, training_key, kept_key)
    is_crowded = (texts > settings.max_texts_per_image)[of_group]
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
    contents = join_halves(near["hi"].to_numpy(), near["lo"].to_numpy())
    at = pc.index_in(join_halves(hi, lo), contents)
    keys = pc.fill_null(near["key"].combine_chunks().take(at), 0).to_numpy(zero_copy_only=False)
    return at.is_valid().to_numpy(zero_copy_only=False), keys


def leaving_pairs(rows: pa.Table, verdicts: pa.Table | pa.RecordBatch) -> pa.Table:
    """Pairs that leave a shard, by the verdicts on its contents, as LEAVING. The pairs of a
    duplicate image stay if they have the URL of its pair with the smallest key.

    Args:
      rows: of the sidecar, `key`, `url` and `sha256`. verdicts: of this shard.
    """
    rows = rows.filter(rows["sha256"].is_valid()).combine_chunks()
    contents = join_halves(verdicts["hi"].to_numpy(), verdicts["lo"].to_numpy())
    at = pc.index_in(join_halves(*digests_of(rows["sha256"])), contents)
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
