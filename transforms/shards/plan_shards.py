"""Which pair goes into which shard, and which are held out of training: functions of its image's
URL and of how many pairs are kept.

All pairs of one image are in one shard, so that whoever writes it asks for the image once. An image
is on the same side in every dataset that holds out as large a share or a larger one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from alignset.transforms.arrivals.images import stored_rows
from alignset.transforms.columns.hashing import Bools, UInt64s
from alignset.transforms.pairs.urls import url_hashes
from alignset.transforms.shards.shard_places import HOLDOUT, shard_name
from alignset.transforms.storage.blocks import BUCKET, Blocks, Bucket, unpack
from alignset.transforms.storage.files import write_atomically

_LOW = np.uint64((1 << 32) - 1)


def held_out(urls: pa.StringArray, share: float) -> Bools:
    """Which pairs are held out.

    Args:
      urls: string[n], no nulls, valid UTF-8.
      share: of all images, from 0 to 1.

    Returns:
      bool[n].
    """
    hashes, _, _ = url_hashes(urls)
    return (hashes & _LOW) < np.uint64(round(share * (1 << 32)))


def held_out_share(holdout: float, kept_count: int) -> float:
    """The share of images that is held out: `holdout` below 1, else about so many pairs of all."""
    return holdout if holdout < 1 else min(1.0, holdout / max(1, kept_count))


class _HoldOut(beam.DoFn):
    def __init__(self, holdout: float, blocks: Blocks) -> None:
        self.holdout, self.blocks = holdout, blocks

    def process(self, element: Bucket, kept_count: int) -> Iterator[Any]:
        bucket, rows = element[0], unpack(element[1])
        aside = held_out(rows["url"], held_out_share(self.holdout, kept_count))
        for tag, mask in (("held", aside), ("left", ~aside)):
            part = rows.filter(pa.array(mask))
            for block in self.blocks.pack([part] if len(part) else []):
                yield beam.pvalue.TaggedOutput(tag, (bucket, block))
                yield beam.pvalue.TaggedOutput(f"{tag}_rows", len(part))


@dataclass(eq=False)
class HoldOut(beam.PTransform):
    """Kept pairs to pairs that are held out and the rest, with how many each are.

    Outputs: `held`, `left` (blocks, as `JudgePairs` gives them), `held_rows`, `left_rows`
    (singletons).

    Args:
      holdout: the share of images below 1, else about how many pairs.
      kept_count: a singleton, how many pairs are kept in all.
    """

    holdout: float
    kept_count: beam.PCollection
    blocks: Blocks

    def expand(self, pairs: beam.PCollection) -> dict[str, beam.PCollection]:
        split = beam.ParDo(
            _HoldOut(self.holdout, self.blocks), beam.pvalue.AsSingleton(self.kept_count)
        )
        tags = ("held", "left", "held_rows", "left_rows")
        outputs = pairs | split.with_outputs(*tags)
        parts = {tag: outputs[tag] for tag in tags}
        for tag in ("held", "left"):
            parts[tag].element_type = BUCKET
            counts = parts[f"{tag}_rows"]
            parts[f"{tag}_rows"] = counts | f"Sum{tag}" >> beam.CombineGlobally(sum)
        return parts


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
    images to within the square root of it; how far their pairs differ is in benchmarks/notes.md.

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
        yield from self.blocks.pack_each(
            (g, rows.slice(edges[g], edges[g + 1] - edges[g])) for g in used_groups
        )


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
            write = partial(pq.write_table, table.slice(low, high - low), compression="zstd")
            write_atomically(plan_path(self.folder, number), write)
            yield number, int(high - low)


def plan_path(folder: str, shard: int) -> str:
    """Where the pairs of a shard are listed until it is written."""
    return f"{folder}/{'holdout-' * (shard >= HOLDOUT)}{shard_name(shard)}.parquet"


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
