"""The contents of a shard's images, by which those with the same bytes are found in all shards.

Pure functions over columns. A content is the first 128 bits of an image's SHA-256.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from alignset.transforms.columns.batches import batch_of, bucket_order
from alignset.transforms.columns.hashing import Bools, UInt64s
from alignset.transforms.columns.rejects import keys_of
from alignset.transforms.pairs.texts import measure_texts
from alignset.transforms.pairs.urls import url_hashes
from alignset.transforms.rules.popularity import MAX_TEXTS_PER_IMAGE

Ints = npt.NDArray[np.int64]
# What is read of a sidecar.
COLUMNS = ("key", "url", "caption", "sha256")
# In place of a shard: what is held out has a near-duplicate in training, and what is to train on
# has a better one that looks like it.
OF_TRAINING, BETTER = -1, -2


@dataclass(frozen=True)
class CopyRules:
    """The outcome of images with the same bytes.

    Attributes:
      max_texts: alt-texts of a content, at most, or it goes with all its pairs.
      once: whether a content stays once on each side, with the alt-texts of one URL.
      clean_holdout: whether what is held out goes where its content is in training.
      near: whether images to train on go that look like a better one.
    """

    max_texts: int
    once: bool = False
    clean_holdout: bool = True
    near: bool = False

    @property
    def texts_of_shard(self) -> int:
        """Alt-texts of a content that a shard has to name, at most."""
        return 1 if self.max_texts == MAX_TEXTS_PER_IMAGE.opened else self.max_texts


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


def as_binary(hi: UInt64s, lo: UInt64s) -> pa.FixedSizeBinaryArray:
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


def bucketed(contents: pa.RecordBatch, buckets: int) -> tuple[list[int], list[pa.RecordBatch]]:
    """The rows of each bucket that has some, with its number."""
    order, slices = bucket_order(contents["hi"].to_numpy(), buckets)
    contents = contents.take(pa.array(order))
    numbers = [number for number, _, _ in slices]
    return numbers, [contents.slice(start, stop - start) for _, start, stop in slices]
