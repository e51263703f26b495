"""Which pairs leave a dataset, or move, since others have the same image: by their contents.

Pure functions over columns. The pairs that are held out and those to train on are two sides of a
content; what leaves is decided for each apart.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.columns.batches import batch_of
from alignset.transforms.columns.hashing import Bools, UInt64s
from alignset.transforms.duplicates.contents import (
    BETTER,
    NOWHERE,
    CopyRules,
    Ints,
    as_binary,
    digests_of,
    ranks,
    starts_of,
)
from alignset.transforms.rules import given
from alignset.transforms.rules.popularity import MAX_TEXTS_PER_IMAGE
from alignset.transforms.shards.listed_pairs import keys_of
from alignset.transforms.shards.shard_places import HOLDOUT
from alignset.transforms.shards.shard_stats import MOST_GROUPS, ContentGroup, SharedContents

# Why pairs leave, by the code of a verdict. The first stays, or moves.
REASONS = (
    *(None, MAX_TEXTS_PER_IMAGE.reason, given.DUPLICATE_OF_TRAINING),
    *(given.DUPLICATE_IMAGE, given.DUPLICATE_IMAGE),  # of equal files; of near-duplicates
)
STAYS, CROWDED, OF_TRAINING, DUPLICATE, NEAR = range(5)


class Judged(NamedTuple):
    """Outcomes of some contents.

    Fields:
      verdicts: of contents that pairs leave. `shard`: whose. `hi`, `lo`: the content. `reason`: the
        place in REASONS. `key`: 0 in the row of a content, whose pairs leave; else a pair of the
        content that stays, or moves to the shard `target`. `kept`: the key of the pair whose image
        is kept, 0 where none is.
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
        is_held_out = column["shard"] >= HOLDOUT
        order = np.lexsort((column["key"], is_held_out, column["lo"], column["hi"]))
        self.is_held_out = is_held_out[order]
        self.hi, self.lo, self.text, self.url, self.key, self.shard, self.pairs, self.images = (
            column[name][order]
            for name in ("hi", "lo", "text", "url", "key", "shard", "pairs", "images")
        )
        self.content_starts = starts_of(self.hi, self.lo)
        self.content = np.cumsum(self.content_starts) - 1
        # A group is one side of a content. Its first row has the smallest key.
        self.group_starts = starts_of(self.content, self.is_held_out)
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
        is_text = starts_of(self.content[order], self.text[order])
        return np.bincount(self.content[order][is_text])

    def choice(self, max_texts: int) -> Bools:
        """bool[n], the pairs of a group that stay or move: one an alt-text, rather one of the image
        that is kept, and with the smallest key."""
        others = self.url != self.url[self.first][self.group]
        by_text = np.lexsort((self.key, others, self.text, self.group))
        of_text = by_text[starts_of(self.group[by_text], self.text[by_text])]
        order = of_text[np.lexsort((self.key[of_text], others[of_text], self.group[of_text]))]
        stays = np.zeros(len(self), np.bool_)
        stays[order[ranks(starts_of(self.group[order])) < max_texts]] = True
        return stays


def judge_contents(rows: pa.Table, rules: CopyRules) -> Judged:
    """Which pairs of some contents leave.

    Args:
      rows: all that `contents_of` and `near_contents` gave of these contents, in any order.
    """
    r = _Rows(rows.filter(pc.greater_equal(rows["shard"], 0)))
    first, of_group = r.first, r.group
    group_content, group_held = r.content[first], r.is_held_out[first]
    is_crowded = (r.texts > rules.max_texts)[group_content]
    in_training = np.zeros(int(r.content[-1]) + 1 if len(r) else 0, np.bool_)
    in_training[group_content[~group_held]] = True
    # Where an image to train on leaves for a near-duplicate, its pairs say which one is kept.
    is_near, near_key = _near_keys(rows, BETTER, r)
    is_near &= ~group_held
    kept_key = np.where(is_near, near_key, r.key[first])
    training_key = np.zeros(len(in_training), np.uint64)
    training_key[group_content[~group_held]] = kept_key[~group_held]

    stays = r.choice(rules.max_texts)
    in_place = stays & (r.url == r.url[first][of_group])
    is_double = r.of_groups(r.pairs) > r.of_groups(in_place.astype(np.int64))
    reason = np.where(is_double & rules.once, DUPLICATE, STAYS)
    in_training, training_key = in_training[group_content], training_key[group_content]
    has_near, near_key = _near_keys(rows, NOWHERE, r)
    training_key = np.where(has_near & ~in_training, near_key, training_key)
    reason = np.where(is_near, NEAR, reason)
    of_training = group_held & (in_training | has_near) & rules.clean_holdout
    reason = np.where(of_training, OF_TRAINING, reason)
    reason = np.where(is_crowded, CROWDED, reason)
    kept_key = np.where(of_training, training_key, kept_key)
    kept_key = np.where(is_crowded, np.uint64(0), kept_key)

    leaving = reason[of_group] != STAYS
    by_shard = np.lexsort((r.shard, of_group))
    contents = by_shard[starts_of(of_group[by_shard], r.shard[by_shard])]
    contents = contents[leaving[contents]]
    pairs = np.flatnonzero(stays & (reason[of_group] == DUPLICATE))
    target = np.where(in_place, NOWHERE, r.shard[first][of_group])[pairs]
    verdicts = {
        name: np.concatenate([of_contents, of_pairs])
        for name, of_contents, of_pairs in (
            ("shard", r.shard[contents], r.shard[pairs]),
            ("hi", r.hi[contents], r.hi[pairs]),
            ("lo", r.lo[contents], r.lo[pairs]),
            ("key", np.zeros(len(contents), np.uint64), r.key[pairs]),
            ("kept", kept_key[of_group[contents]], kept_key[of_group[pairs]]),
            ("reason", reason[of_group[contents]], np.zeros(len(pairs), np.int64)),
            ("target", np.full(len(contents), NOWHERE), target),
        )
    }
    images = r.of_groups(r.images)
    images = np.where(reason == DUPLICATE, 1, np.where(reason == STAYS, images, 0))
    of_contents = np.bincount(group_content, images).astype(np.int64)
    return Judged(
        batch_of(verdicts), _shared_contents(images, group_content), _groups(r, of_contents)
    )


def _near_keys(rows: pa.Table, kind: int, of: _Rows) -> tuple[Bools, UInt64s]:
    """bool[m], which groups `near_contents` tells of, and for which pair each leaves."""
    near = rows.filter(pc.equal(rows["shard"], kind)).sort_by("key")
    contents = as_binary(near["hi"].to_numpy(), near["lo"].to_numpy())
    at = pc.index_in(as_binary(of.hi[of.first], of.lo[of.first]), contents)
    keys = pc.fill_null(near["key"].combine_chunks().take(at), 0).to_numpy(zero_copy_only=False)
    return at.is_valid().to_numpy(zero_copy_only=False), keys


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


def _shared_contents(images: Ints, content: Ints) -> SharedContents:
    of_contents = np.bincount(content, images).astype(np.int64)
    sizes = of_contents[of_contents > 1]
    return SharedContents(int(sizes.sum()), len(sizes))


def count_shared(contents: UInt64s, urls: UInt64s) -> SharedContents:
    """Counts the images whose content another has.

    Args:
      contents: uint64[n], beginnings of SHA-256. urls: uint64[n], hashes; a pair may stand twice.
    """
    order = np.lexsort((urls, contents))
    contents, urls = contents[order], urls[order]
    content = np.cumsum(starts_of(contents)).astype(np.int64)[starts_of(contents, urls)]
    return _shared_contents(np.ones(len(content), np.int64), content)


def leaving_pairs(rows: pa.Table, verdicts: pa.RecordBatch) -> pa.RecordBatch:
    """Pairs that leave a shard, by the verdicts on its contents.

    Args:
      rows: of the sidecar, with COLUMNS or `key` and `sha256`. verdicts: of this shard.

    Returns:
      `key`: of the pairs that leave. `reason`: uint8, a place in REASONS, STAYS of those that move.
      `kept`, `target`: as in `Judged`.
    """
    rows = rows.filter(rows["sha256"].is_valid())
    columns = {name: verdicts[name].to_numpy() for name in verdicts.schema.names}
    of_pair = columns["key"] != 0
    of_contents = np.flatnonzero(~of_pair)
    contents = as_binary(columns["hi"][of_contents], columns["lo"][of_contents])
    place_of_content = pc.index_in(as_binary(*digests_of(rows["sha256"])), contents)
    keys = keys_of(rows["key"].filter(place_of_content.is_valid()))
    at = of_contents[place_of_content.drop_null().to_numpy()]
    reason, kept_key, target = columns["reason"][at], columns["kept"][at], np.full(len(at), NOWHERE)
    place = pc.index_in(pa.array(keys), pa.array(columns["key"][of_pair]))
    is_named = place.is_valid().to_numpy(zero_copy_only=False)
    target[is_named] = columns["target"][of_pair][place.drop_null().to_numpy()]
    reason = np.where(is_named, STAYS, reason)
    leaves = (reason != STAYS) | (target != NOWHERE)
    return batch_of(
        {
            "key": keys[leaves],
            "reason": reason[leaves].astype(np.uint8),
            "kept": kept_key[leaves],
            "target": target[leaves],
        }
    )
