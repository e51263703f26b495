"""Measurements of the first reading of a batch, kept for the second."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from alignset.transforms.columns.batches import batch_of
from alignset.transforms.columns.hashing import UInt64s, pair_keys
from alignset.transforms.columns.pair_columns import PAGE_URL
from alignset.transforms.pairs.measure_pairs import Pairs
from alignset.transforms.storage.blocks import unpack_each

# What the second reading needs of the first. Each text's n-grams would take as much again, and are
# quick; the distinct ones come from the blocks that were counted.
_REMEMBERED = ("url", "text", "malformed", "url_hash", "text_hash", "word_count")


def remembered(pairs: Pairs, batch: pa.RecordBatch) -> pa.RecordBatch:
    """A measured batch as columns, for `recalled`; with the source's own columns."""
    columns = {name: getattr(pairs, name) for name in _REMEMBERED}
    if pairs.page is not None:
        columns[PAGE_URL] = pairs.page
    columns |= {name: batch[name] for name in batch.schema.names if name.startswith("source_")}
    return batch_of(columns)


class Remembered(NamedTuple):
    """A batch as it was `remembered`.

    Fields:
      distinct: ascending uint64 arrays that hold each n-gram of the rows that counted; None where
        none were counted.
    """

    batch: pa.RecordBatch
    distinct: Sequence[UInt64s] | None


def recalled_each(blocks: pa.RecordBatch) -> Iterator[Remembered]:
    """The data behind references: for each batch blocks of its n-grams, and then the batch
    itself."""
    distinct: list[UInt64s] = []
    for block in unpack_each(blocks):
        if "ngram" in block.schema.names:
            distinct.append(block["ngram"].to_numpy())
        else:
            yield Remembered(block, distinct or None)
            distinct = []


def recalled(batch: pa.RecordBatch) -> Pairs:
    """The pairs of a batch that was `remembered`, without their n-grams."""
    url, text, malformed, *numbers = (batch[name] for name in _REMEMBERED)
    url_hash, text_hash, word_count = (column.to_numpy() for column in numbers)
    return Pairs(
        url=url,
        text=text,
        malformed=malformed,
        url_hash=url_hash,
        text_hash=text_hash,
        key=pair_keys(url_hash, text_hash),
        own_url=np.zeros(len(batch), np.bool_),
        word_count=word_count,
        page=batch[PAGE_URL] if PAGE_URL in batch.schema.names else None,
    )
