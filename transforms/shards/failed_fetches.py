"""The pairs of written shards whose fetch failed: to be tried again, and forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.columns.carried import CARRIED
from alignset.transforms.columns.pair_columns import LANGUAGE_COLUMNS, PAGE_URL
from alignset.transforms.columns.rejects import keys_of
from alignset.transforms.rules.given import FETCH_FAILED
from alignset.transforms.shards.shard_places import ShardPlaces
from alignset.transforms.storage.parquet_files import read_rows, write_batches

# The others say why a pair was dropped.
OF_PAIRS = ("key", "url", "caption", PAGE_URL, *LANGUAGE_COLUMNS)


def _failed_with(rejects: pa.Table, details: Sequence[str]) -> pa.ChunkedArray:
    of_these = pc.is_in(rejects["detail"], pa.array(details, pa.string()))
    return pc.and_(pc.equal(rejects["reason"], FETCH_FAILED), of_these)


def read_failed(
    shard: int, out: str, details: Sequence[str], carried: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """Yields the pairs of a shard whose fetch failed with one of these details, as the text stage
    gives pairs.

    Args:
      carried: the names of the columns that came from the input.
    """
    rejects = read_rows(ShardPlaces(out).rejected(shard))
    names = {name: name for name in OF_PAIRS} | {name: CARRIED + name for name in carried}
    names = {name: there for name, there in names.items() if name in rejects.column_names}
    failures = rejects.filter(_failed_with(rejects, details)).select([*names])
    failures = failures.rename_columns(names).combine_chunks()
    yield from failures.set_column(0, "key", pa.array(keys_of(failures["key"]))).to_batches()


def forget_failed(shard: int, out: str, details: Sequence[str], scratch: str | None) -> None:
    """Takes these pairs out of a shard's `rejected/`: they stand in another's. Done again it does
    nothing."""
    path = ShardPlaces(out).rejected(shard)
    rejects = read_rows(path)
    others = rejects.filter(pc.invert(_failed_with(rejects, details)))
    if len(others) < len(rejects):
        write_batches(path, rejects.schema, others.combine_chunks().to_batches(), scratch)
