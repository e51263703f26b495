"""Pairs whose images have the same bytes, over a whole dataset: which leave, and which move.

Pure functions over columns. A content is the first 128 bits of an image's SHA-256. The pairs that
are held out and those to train on are two sides; what leaves is decided for each apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.columns.batches import batch_of, bucket_order
from alignset.transforms.columns.hashing import Bools, UInt64s
from alignset.transforms.pairs.texts import measure_texts
from alignset.transforms.pairs.urls import url_hashes
from alignset.transforms.rules import given
from alignset.transforms.rules.popularity import MAX_TEXTS_PER_IMAGE
from alignset.transforms.shards.listed_pairs import keys_of
from alignset.transforms.shards.shard_places import HOLDOUT
from alignset.transforms.shards.shard_stats import MOST_GROUPS, ContentGroup, SharedContents

Ints = npt.NDArray[np.int64]
# What is read of a sidecar.
COLUMNS = ("key", "url", "caption", "sha256")
# Why pairs leave, by the code of a verdict. The first stays, or moves.
REASONS = (None, MAX_TEXTS_PER_IMAGE.reason, given.DUPLICATE_OF_TRAINING, given.DUPLICATE_IMAGE)
STAYS, CROWDED, OF_TRAINING, DUPLICATE = range(4)
NOWHERE = -1  # the shard that a pair moves to which does not move


@dataclass(frozen=True)
class CopyRules:
    """What becomes of images with the same bytes.

    Attributes:
      max_texts: alt-texts of a content, at most, or it goes with all its pairs.
      once: whether a content stays once on each side, with the alt-texts of all its images.
      clean_holdout: whether what is held out goes where its content is in training.
    """

    max_texts: int
    once: bool = False
    clean_holdout: bool = True

    @property
    def texts_of_shard(self) -> int:
        """Alt-texts of a content that a shard has to name, at most."""
        is_off = self.max_texts == MAX_TEXTS_PER_IMAGE.opened
        return 1 if is_off and not self.once else self.max_texts


def digests_of(sha256: pa.ChunkedArray | pa.Array) -> tuple[UInt64s, UInt64s]:
    """The contents of SHA-256 in hex, none null: two uint64[n]."""
    words = np.frombuffer(bytes.fromhex("".join(sha256.to_pylist())), ">u8").astype(np.uint64)
    words = words.reshape(-1, 4)
    return words[:, 0].copy(), words[:, 1].copy()


def _starts(*columns: npt.NDArray[np.generic]) -> Bools:
    """bool[n], where the rows of sorted columns differ from the row before."""
    starts = np.ones(len(columns[0]), np.bool_)
    starts[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    return starts


def _rank(starts: Bools) -> Ints:
    """int64[n], the place of each row behind the last start."""
    rows = np.arange(len(starts))
    return rows - np.maximum.accumulate(np.where(starts, rows, 0))


def _as_binary(hi: UInt64s, lo: UInt64s) -> pa.FixedSizeBinaryArray:
    whole = pa.py_buffer(np.stack([hi, lo], axis=1))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(hi), [None, whole])


def contents_of(shard: int, rows: pa.Table, max_texts: int) -> pa.RecordBatch:
    """The contents of a shard's images, each with a few of its alt-texts.

    A content has one row for each alt-text, and at most `max_texts` + 1 rows however many pairs
    it has: by them alone it is judged, so no content is large in a shuffle.

    Args:
      rows: of the sidecar, with COLUMNS.

    Returns:
      `hi`, `lo`: the content. `text`, `url`: hashes of identities. `key`: of the pair, the smallest
      of this alt-text, where the content's first URL does not have it too. `shard`. `pairs`,
      `images`: how many the shard has of the content, on its first row; else 0.
    """
    rows = rows.filter(rows["sha256"].is_valid()).combine_chunks()
    hi, lo = digests_of(rows["sha256"])
    captions, keys = rows["caption"].combine_chunks(), keys_of(rows["key"])
    text = measure_texts(captions, np.zeros(len(rows), np.bool_)).hash if len(rows) else keys
    url = url_hashes(rows["url"].combine_chunks())[0] if len(rows) else keys

    order = np.lexsort((keys, lo, hi))
    content = np.cumsum(_starts(hi[order], lo[order]))
    first_url = url[order][np.flatnonzero(_starts(content))][content - 1]
    others = url[order] != first_url
    by_text = np.lexsort((keys[order], others, text[order], content))
    of_text = by_text[_starts(content[by_text], text[order][by_text])]
    by_rank = of_text[np.lexsort((keys[order][of_text], others[of_text], content[of_text]))]
    starts = _starts(content[by_rank])
    chosen = by_rank[_rank(starts) <= max_texts]
    first = _starts(content[chosen])

    by_url = np.lexsort((url[order], content))
    is_image = _starts(content[by_url], url[order][by_url])
    images = np.bincount(content[by_url][is_image], minlength=1)[content[chosen]] * first
    pairs = np.bincount(content, minlength=1)[content[chosen]] * first
    columns = {"hi": hi, "lo": lo, "text": text, "url": url, "key": keys}
    return batch_of(
        {name: column[order][chosen] for name, column in columns.items()}
        | {"shard": np.full(len(chosen), shard), "pairs": pairs, "images": images}
    )


def near_contents(hi: UInt64s, lo: UInt64s, keys: UInt64s) -> pa.RecordBatch:
    """Rows for `judge_contents` of contents that are held out and have a near-duplicate in
    training, whose keys these are."""
    none = np.zeros(len(hi), np.uint64)
    no_shard, counts = np.full(len(hi), NOWHERE), np.zeros(len(hi), np.int64)
    columns = {"hi": hi, "lo": lo, "text": none, "url": none, "key": keys}
    return batch_of(columns | {"shard": no_shard, "pairs": counts, "images": counts})


def bucketed(contents: pa.RecordBatch, buckets: int) -> tuple[list[int], list[pa.RecordBatch]]:
    """The rows of each bucket that has some, with its number."""
    order, slices = bucket_order(contents["hi"].to_numpy(), buckets)
    contents = contents.take(pa.array(order))
    numbers = [number for number, _, _ in slices]
    return numbers, [contents.slice(start, stop - start) for _, start, stop in slices]


class Judged(NamedTuple):
    """What became of some contents.

    Fields:
      verdicts: of those of which pairs leave. `shard`: whose. `hi`, `lo`: the content. `reason`:
        the place in REASONS. `key`: 0 in the row of a content, whose pairs leave; else a pair of
        the content that stays, or moves to the shard `target`. `kept`: the key of the pair whose
        image is kept, 0 where none is.
      shared: the images that share their content in the dataset without what leaves.
      groups: the largest of these.
    """

    verdicts: pa.RecordBatch
    shared: SharedContents
    groups: list[ContentGroup]


class _Rows:
    """Rows of `contents_of` of several shards, in the order of their contents, sides and keys."""

    def __init__(self, rows: pa.Table) -> None:
        column = {name: rows[name].to_numpy() for name in rows.column_names}
        held = column["shard"] >= HOLDOUT
        order = np.lexsort((column["key"], held, column["lo"], column["hi"]))
        self.held = held[order]
        self.hi, self.lo, self.text, self.url, self.key, self.shard, self.pairs, self.images = (
            column[name][order]
            for name in ("hi", "lo", "text", "url", "key", "shard", "pairs", "images")
        )
        self.content_starts = _starts(self.hi, self.lo)
        self.content = np.cumsum(self.content_starts) - 1
        # A group is one side of a content. Its first row has the smallest key.
        self.group_starts = _starts(self.content, self.held)
        self.group = np.cumsum(self.group_starts) - 1
        self.first = np.flatnonzero(self.group_starts)

    def __len__(self) -> int:
        return len(self.key)

    def of_groups(self, column: Ints) -> Ints:
        """Sums of a column by group."""
        return np.bincount(self.group, column, len(self.first)).astype(np.int64)

    @property
    def texts(self) -> Ints:
        """How many alt-texts each content has, by content."""
        order = np.lexsort((self.text, self.content))
        is_text = _starts(self.content[order], self.text[order])
        return np.bincount(self.content[order][is_text])

    def chosen(self, max_texts: int) -> Bools:
        """bool[n], the pairs of a group that stay or move: one an alt-text, rather one of the image
        that is kept, and with the smallest key."""
        others = self.url != self.url[self.first][self.group]
        by_text = np.lexsort((self.key, others, self.text, self.group))
        of_text = by_text[_starts(self.group[by_text], self.text[by_text])]
        ranked = of_text[np.lexsort((self.key[of_text], others[of_text], self.group[of_text]))]
        chosen = np.zeros(len(self), np.bool_)
        chosen[ranked[_rank(_starts(self.group[ranked])) < max_texts]] = True
        return chosen


def judge_contents(rows: pa.Table, rules: CopyRules) -> Judged:
    """Which pairs of some contents leave.

    Args:
      rows: all that `contents_of` and `near_contents` gave of these contents, in any order.
    """
    is_near = pc.equal(rows["shard"], NOWHERE)
    near, r = rows.filter(is_near).sort_by("key"), _Rows(rows.filter(pc.invert(is_near)))
    first, of_group = r.first, r.group
    group_content, group_held = r.content[first], r.held[first]
    crowded = (r.texts > rules.max_texts)[group_content]
    in_training = np.zeros(int(r.content[-1]) + 1 if len(r) else 0, np.bool_)
    in_training[group_content[~group_held]] = True
    training_key = np.zeros(len(in_training), np.uint64)
    training_key[group_content[~group_held]] = r.key[first][~group_held]

    chosen = r.chosen(rules.max_texts)
    in_place = chosen & (r.url == r.url[first][of_group])
    is_double = r.of_groups(r.pairs) > r.of_groups(in_place.astype(np.int64))
    reason = np.where(is_double & rules.once, DUPLICATE, STAYS)
    in_training, training_key = in_training[group_content], training_key[group_content]
    listed = _as_binary(near["hi"].to_numpy(), near["lo"].to_numpy())
    at = pc.index_in(_as_binary(r.hi[first], r.lo[first]), listed)
    has_near = at.is_valid().to_numpy(zero_copy_only=False) & ~in_training
    training_key[has_near] = near["key"].take(at.filter(pa.array(has_near))).to_numpy()
    of_training = group_held & (in_training | has_near) & rules.clean_holdout
    reason = np.where(of_training, OF_TRAINING, reason)
    reason = np.where(crowded, CROWDED, reason)
    kept = np.where(of_training, training_key, r.key[first])
    kept = np.where(crowded, np.uint64(0), kept)

    leaving = reason[of_group] != STAYS
    by_shard = np.lexsort((r.shard, of_group))
    contents = by_shard[_starts(of_group[by_shard], r.shard[by_shard])]
    contents = contents[leaving[contents]]
    pairs = np.flatnonzero(chosen & (reason[of_group] == DUPLICATE))
    target = np.where(in_place, NOWHERE, r.shard[first][of_group])[pairs]
    verdicts = {
        name: np.concatenate([of_contents, of_pairs])
        for name, of_contents, of_pairs in (
            ("shard", r.shard[contents], r.shard[pairs]),
            ("hi", r.hi[contents], r.hi[pairs]),
            ("lo", r.lo[contents], r.lo[pairs]),
            ("key", np.zeros(len(contents), np.uint64), r.key[pairs]),
            ("kept", kept[of_group[contents]], kept[of_group[pairs]]),
            ("reason", reason[of_group[contents]], np.zeros(len(pairs), np.int64)),
            ("target", np.full(len(contents), NOWHERE), target),
        )
    }
    images = r.of_groups(r.images)
    images = np.where(reason == DUPLICATE, 1, np.where(reason == STAYS, images, 0))
    of_contents = np.bincount(group_content, images).astype(np.int64)
    return Judged(batch_of(verdicts), _shared(images, group_content), _groups(r, of_contents))


def _groups(rows: _Rows, images: Ints) -> list[ContentGroup]:
    first = np.flatnonzero(rows.content_starts)
    most = [at for at in np.argsort(-images, kind="stable")[:MOST_GROUPS] if images[at] > 1]
    return [
        ContentGroup(
            int(images[at]), f"{rows.hi[row]:016x}", int(rows.shard[row]), f"{rows.key[row]:016x}"
        )
        for at in most
        for row in [first[at]]
    ]


def _shared(images: Ints, content: Ints) -> SharedContents:
    of_contents = np.bincount(content, images).astype(np.int64)
    shared = of_contents[of_contents > 1]
    return SharedContents(int(shared.sum()), len(shared))


def count_shared(contents: UInt64s, urls: UInt64s) -> SharedContents:
    """Counts the images whose content another has.

    Args:
      contents: uint64[n], beginnings of SHA-256. urls: uint64[n], hashes; a pair may stand twice.
    """
    order = np.lexsort((urls, contents))
    contents, urls = contents[order], urls[order]
    content = np.cumsum(_starts(contents)).astype(np.int64)[_starts(contents, urls)]
    return _shared(np.ones(len(content), np.int64), content)


def leaving_pairs(rows: pa.Table, verdicts: pa.RecordBatch) -> pa.RecordBatch:
    """What leaves a shard, of the verdicts on its contents.

    Args:
      rows: of the sidecar, with COLUMNS or `key` and `sha256`. verdicts: of this shard.

    Returns:
      `key`: of the pairs that leave. `reason`: uint8, a place in REASONS, STAYS of those that move.
      `kept`, `target`: as in `Judged`.
    """
    rows = rows.filter(rows["sha256"].is_valid())
    said = {name: verdicts[name].to_numpy() for name in verdicts.schema.names}
    of_pair = said["key"] != 0
    of_contents = np.flatnonzero(~of_pair)
    listed = _as_binary(said["hi"][of_contents], said["lo"][of_contents])
    found = pc.index_in(_as_binary(*digests_of(rows["sha256"])), listed)
    keys = keys_of(rows["key"].filter(found.is_valid()))
    at = of_contents[found.drop_null().to_numpy()]
    reason, kept, target = said["reason"][at], said["kept"][at], np.full(len(at), NOWHERE)
    place = pc.index_in(pa.array(keys), pa.array(said["key"][of_pair]))
    is_named = place.is_valid().to_numpy(zero_copy_only=False)
    target[is_named] = said["target"][of_pair][place.drop_null().to_numpy()]
    reason = np.where(is_named, STAYS, reason)
    leaves = (reason != STAYS) | (target != NOWHERE)
    return batch_of(
        {
            "key": keys[leaves],
            "reason": reason[leaves].astype(np.uint8),
            "kept": kept[leaves],
            "target": target[leaves],
        }
    )
