"""The pairs of written shards whose fetch failed: by host, to be tried again, and forgotten."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.columns.carried import CARRIED
from alignset.transforms.columns.pair_columns import LANGUAGE_COLUMNS, PAGE_URL
from alignset.transforms.rules import given
from alignset.transforms.shards.shard_places import ShardPlaces
from alignset.transforms.shards.shard_stats import FailingHost
from alignset.transforms.storage.blocks import BUCKET, Blocks, Bucket
from alignset.transforms.storage.parquet_files import read_rows, write_batches
from alignset.transforms.workers.counts import add_by_name
from alignset.transforms.workers.fencing import Fence

MOST_HOSTS = 20
# The others say why a pair was dropped.
OF_PAIRS = ("key", "url", "caption", PAGE_URL, *LANGUAGE_COLUMNS)


def _read_rejects(out: str, shard: int) -> pa.Table:
    return read_rows(ShardPlaces(out).rejected(shard))


def _has_failed(rejects: pa.Table) -> pa.ChunkedArray:
    return pc.equal(rejects["reason"], given.FETCH_FAILED)


def _failed_with(rejects: pa.Table, details: Sequence[str]) -> pa.ChunkedArray:
    of_these = pc.is_in(rejects["detail"], pa.array(details, pa.string()))
    return pc.and_(_has_failed(rejects), of_these)


def failures_by_host(rejects: pa.Table) -> dict[str, dict[str, int]]:
    """How often each host (with its port, where there is one) failed with each detail.

    Args:
      rejects: columns url, reason, detail (string[n]).
    """
    failures = rejects.filter(_has_failed(rejects))
    counts: dict[str, Counter[str]] = {}
    for url, detail in zip(
        failures["url"].to_pylist(), failures["detail"].to_pylist(), strict=True
    ):
        try:
            host = urlsplit(url).netloc.rpartition("@")[2].lower()
        except ValueError:
            host = ""
        counts.setdefault(host, Counter())[detail] += 1
    return {host: dict(details) for host, details in counts.items()}


@dataclass(eq=False)
class FindFailingHosts(beam.PTransform):
    """Numbers of shards to one list of the `FailingHost`s with the most failures."""

    out: str

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        out = self.out

        def failures(shard: int) -> Iterable[tuple[str, dict[str, int]]]:
            return failures_by_host(_read_rejects(out, shard)).items()

        return (
            shards
            | "FailuresByHost" >> beam.FlatMap(failures)
            | beam.CombinePerKey(add_by_name)
            | "CountFailures"
            >> beam.MapTuple(
                lambda host, of: FailingHost(dict(sorted(of.items())), sum(of.values()), host)
            )
            | beam.combiners.Top.Smallest(MOST_HOSTS, key=lambda host: (-host.failed, host.host))
        )


@dataclass(eq=False)
class ReadFailed(beam.PTransform):
    """Numbers of shards to the pairs of theirs whose fetch failed with one of these details, as
    `JudgePairs` gives pairs.

    Args:
      carried: the names of the columns that came from the input.
    """

    out: str
    details: Sequence[str]
    blocks: Blocks
    carried: Sequence[str] = ()

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        read = _ReadFailed(self)
        return shards | beam.ParDo(read).with_output_types(BUCKET)


class _ReadFailed(beam.DoFn):
    def __init__(self, transform: ReadFailed) -> None:
        self.out, self.details = transform.out, transform.details
        self.blocks, self.carried = transform.blocks, transform.carried

    def process(self, shard: int) -> Iterator[Bucket]:
        rejects = _read_rejects(self.out, shard)
        names = {name: name for name in OF_PAIRS} | {name: CARRIED + name for name in self.carried}
        names = {name: there for name, there in names.items() if name in rejects.column_names}
        failures = rejects.filter(_failed_with(rejects, self.details)).select([*names])
        failures = failures.rename_columns(names)
        keys = np.array([int(key, 16) for key in failures["key"].to_pylist()], np.uint64)
        failures = failures.set_column(0, "key", pa.array(keys))
        for block in self.blocks.pack(failures.combine_chunks().to_batches()):
            yield shard, block


def forget_failed(
    shard: int, out: str, details: Sequence[str], scratch: str | None, fence: Fence
) -> int:
    """Takes the pairs whose fetch failed with one of these details out of a shard's `rejected/`:
    they are in another shard's books now. Done again it does nothing. Returns the shard."""
    rejects = _read_rejects(out, shard)
    others = rejects.filter(pc.invert(_failed_with(rejects, details)))
    path = ShardPlaces(out).rejected(shard)
    if len(others) < len(rejects):
        with fence.publishing(path):
            write_batches(path, rejects.schema, others.combine_chunks().to_batches(), scratch)
    return shard
