"""Which pair goes into which shard: a function of its image's URL and of how many pairs are kept.

All pairs of one image are in one shard, so that whoever writes it asks for the image once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from alignset.transforms.arrivals.sharing import stored_rows
from alignset.transforms.columns.hashing import UInt64s
from alignset.transforms.pairs.urls import url_hashes
from alignset.transforms.shards.shard_places import HOLDOUT, shard_name
from alignset.transforms.storage.blocks import BUCKET, Blocks, Bucket, unpack
from alignset.transforms.storage.files import write_atomically

MAX_GROUPS = 1024  # blocks that a batch is sent out in; a group holds neighbouring shards
MAX_PAIRS_PER_GROUP = 1_500_000  # 200 MB, of which the sorting needs three times as much


def shard_count(pairs: int, samples_per_shard: int) -> int:
    """How many shards hold this many pairs, about `samples_per_shard` each."""
    return -(-pairs // samples_per_shard)


def group_count(pairs: int, shards: int) -> int:
    """How many groups of shards share a block on their way: more only where groups grow large."""
    return min(shards, max(MAX_GROUPS, -(-pairs // MAX_PAIRS_PER_GROUP)))


def shards_of(hashes: UInt64s, shards: int) -> npt.NDArray[np.int64]:
    """The shard of each image: the place of its URL's hash among all of 64 bits, in `shards` equal
    parts.

    So no count over the corpus is needed but the number of pairs. Parts hold the same number of
    images to within the square root of it; how far their pairs differ is in docs/scale.md.

    Args:
      hashes: uint64[n], of the URLs' identities. Their lower bits decide what is held out.

    >>> shards_of(np.array([0, 1 << 62, 1 << 63, (1 << 64) - 1], np.uint64), 4).tolist()
    [0, 1, 2, 3]
    """
    high = hashes >> np.uint64(32)
    return ((high * np.uint64(shards)) >> np.uint64(32)).astype(np.int64)


class _Spread(beam.DoFn):
    def __init__(self, blocks: Blocks, samples_per_shard: int) -> None:
        self.blocks, self.samples_per_shard = blocks, samples_per_shard

    def process(self, element: Bucket, kept_count: int) -> Iterator[Bucket]:
        rows = unpack(element[1])
        shards = shard_count(kept_count, self.samples_per_shard)
        groups = group_count(kept_count, shards)
        group = shards_of(url_hashes(rows["url"])[0], shards) * groups // shards
        order = np.argsort(group, kind="stable")
        edges = np.searchsorted(group[order], np.arange(groups + 1))
        rows = rows.take(pa.array(order))
        used_groups = [g for g in range(groups) if edges[g + 1] > edges[g]]
        pieces = [rows.slice(edges[g], edges[g + 1] - edges[g]) for g in used_groups]
        yield from zip(used_groups, self.blocks.pack(pieces), strict=True)


class _WritePlan(beam.DoFn):
    def __init__(self, folder: str, samples_per_shard: int, first: int) -> None:
        self.folder, self.samples_per_shard, self.first = folder, samples_per_shard, first

    def process(
        self, element: tuple[int, Iterable[pa.RecordBatch]], kept_count: int
    ) -> Iterator[Any]:
        shards = shard_count(kept_count, self.samples_per_shard)
        tables = [pa.Table.from_batches([unpack(block)]) for block in element[1]]
        table = pa.concat_tables(tables, promote_options="default")
        identities = url_hashes(table["url"].combine_chunks())[0]
        shard_numbers = shards_of(identities, shards)
        with_image = np.isin(identities, identities[stored_rows(table)])
        yield beam.pvalue.TaggedOutput("stored", int(np.count_nonzero(with_image)))
        order = np.lexsort((table["key"].to_numpy(), shard_numbers))
        table, shard_numbers = table.take(pa.array(order)), shard_numbers[order]
        for shard in np.unique(shard_numbers):
            low, high = np.searchsorted(shard_numbers, [shard, shard + 1])
            number = self.first + int(shard)
            write_plan(table.slice(low, high - low), plan_path(self.folder, number))
            yield number, int(high - low)


def plan_path(folder: str, shard: int) -> str:
    """Where the pairs of a shard are listed until it is written."""
    return f"{folder}/{'holdout-' * (shard >= HOLDOUT)}{shard_name(shard)}.parquet"


def write_plan(rows: pa.Table, path: str) -> None:
    """Writes the pairs of one shard."""
    write_atomically(path, lambda sink: pq.write_table(rows, sink, compression="zstd"))


@dataclass(eq=False)
class PlanShards(beam.PTransform):
    """Kept pairs to one Parquet file a shard in `folder`, in the order of their keys.

    Outputs: `shards`, the number of each shard, with how many pairs it has; `stored`, counts that
    add up, of pairs whose image lies in a shard of the input.

    Args:
      kept_count: a singleton, how many pairs are kept in all.
      first: the number of the first shard.
    """

    folder: str
    samples_per_shard: int
    kept_count: beam.PCollection
    blocks: Blocks
    first: int = 0

    def expand(self, pairs: beam.PCollection) -> Any:
        kept_count = beam.pvalue.AsSingleton(self.kept_count)
        spread = beam.ParDo(_Spread(self.blocks, self.samples_per_shard), kept_count)
        write = beam.ParDo(_WritePlan(self.folder, self.samples_per_shard, self.first), kept_count)
        groups = pairs | spread.with_output_types(BUCKET) | beam.GroupByKey()
        return groups | write.with_outputs("stored", main="shards")
