"""The pairs of written shards whose fetch failed: by host, to be tried again, and forgotten."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from transforms.columns import reasons as r
from transforms.columns.pair_columns import PAGE_URL
from transforms.shards.shard_stats import ShardStats
from transforms.storage.blocks import BUCKET, Blocks, Bucket
from transforms.storage.files import open_to_read
from transforms.storage.parquet_files import parquet_file
from transforms.workers.fencing import Fence
from transforms.workers.summaries import add_by_name

MOST_HOSTS = 20
OF_PAIRS = ("key", "url", "caption", PAGE_URL)  # the others say why a pair was dropped


def rejected_path(out: str, shard: int) -> str:
    """Where the pairs of a shard that were dropped are."""
    return f"{out}/rejected/images-{shard:05d}.parquet"


def _rejected(out: str, shard: int) -> pa.Table:
    with open_to_read(rejected_path(out, shard)) as source:
        return pq.read_table(source)


def _has_failed(rejected: pa.Table) -> pa.ChunkedArray:
    return pc.equal(rejected["reason"], r.FETCH_FAILED)


def failures_by_host(rejected: pa.Table) -> dict[str, dict[str, int]]:
    """How often each host (with its port, where there is one) failed with each detail.

    Args:
      rejected: columns url, reason, detail (string[n]).
    """
    failed = rejected.filter(_has_failed(rejected))
    counts: dict[str, Counter[str]] = {}
    for url, detail in zip(failed["url"].to_pylist(), failed["detail"].to_pylist(), strict=True):
        try:
            host = urlsplit(url).netloc.rpartition("@")[2].lower()
        except ValueError:
            host = ""
        counts.setdefault(host, Counter())[detail] += 1
    return {host: dict(details) for host, details in counts.items()}


@dataclass(frozen=True)
class FailingHost:
    """A host, how many fetches of it failed, and with which details."""

    details: dict[str, int]
    failed: int
    host: str


def _as_listed(host: str, details: dict[str, int]) -> FailingHost:
    return FailingHost(dict(sorted(details.items())), sum(details.values()), host)


@dataclass(eq=False)
class FindFailingHosts(beam.PTransform):
    """`ShardStats` to one list of the `FailingHost`s with the most failures."""

    out: str

    def expand(self, stats: beam.PCollection) -> beam.PCollection:
        out = self.out

        def failures(stats: ShardStats) -> Iterator[tuple[str, dict[str, int]]]:
            if stats.failed_to_download:
                yield from failures_by_host(_rejected(out, stats.shard)).items()

        return (
            stats
            | "FailuresByHost" >> beam.FlatMap(failures)
            | beam.CombinePerKey(add_by_name)
            | beam.MapTuple(_as_listed)
            | beam.combiners.Top.Smallest(MOST_HOSTS, key=lambda host: (-host.failed, host.host))
        )


@dataclass(eq=False)
class ReadFailed(beam.PTransform):
    """Numbers of shards to the pairs of theirs whose fetch failed, as `JudgePairs` gives pairs."""

    out: str
    blocks: Blocks

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        return shards | beam.ParDo(_ReadFailed(self.out, self.blocks)).with_output_types(BUCKET)


class _ReadFailed(beam.DoFn):
    def __init__(self, out: str, blocks: Blocks) -> None:
        self.out, self.blocks = out, blocks

    def process(self, shard: int) -> Iterator[Bucket]:
        rejected = _rejected(self.out, shard)
        names = [name for name in OF_PAIRS if name in rejected.column_names]
        failed = rejected.filter(_has_failed(rejected)).select(names)
        keys = np.array([int(key, 16) for key in failed["key"].to_pylist()], np.uint64)
        failed = failed.set_column(0, "key", pa.array(keys))
        for block in self.blocks.pack(failed.combine_chunks().to_batches()):
            yield shard, block


def forget_failed(shard: int, out: str, scratch: str | None, fence: Fence) -> int:
    """Takes the pairs whose fetch failed out of a shard's `rejected/`: they are in another shard's
    books now. Done again it does nothing. Returns the shard."""
    rejected = _rejected(out, shard)
    left = rejected.filter(pc.invert(_has_failed(rejected)))
    path = rejected_path(out, shard)
    if len(left) < len(rejected):
        with fence.publishing(path), parquet_file(path, rejected.schema, scratch) as file:
            for batch in left.combine_chunks().to_batches():
                file.write(batch)
    return shard
