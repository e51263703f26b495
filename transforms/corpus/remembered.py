"""Measurements of the first reading of a batch, kept for the second."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from alignset.transforms.columns.batches import batch_of
from alignset.transforms.columns.hashing import pair_keys
from alignset.transforms.columns.pair_columns import PAGE_URL
from alignset.transforms.pairs.measure_pairs import Pairs

# What the second reading needs of the first. Each text's n-grams would take as much again, and are
# quick.
_REMEMBERED = ("url", "text", "malformed", "url_hash", "text_hash", "word_count")


def remembered(pairs: Pairs, batch: pa.RecordBatch) -> pa.RecordBatch:
    """A measured batch as columns, for `recalled`; with the source's own columns."""
    columns = {name: getattr(pairs, name) for name in _REMEMBERED}
    if pairs.page is not None:
        columns[PAGE_URL] = pairs.page
    columns |= {name: batch[name] for name in batch.schema.names if name.startswith("source_")}
    return batch_of(columns)


def is_remembered(batch: pa.RecordBatch) -> bool:
    """Whether a batch is measured, and not as it was read."""
    return "url_hash" in batch.schema.names


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
