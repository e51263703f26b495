"""How many images of a dataset share their perceptual hash with another that has other bytes, and
a sample of such pairs: an equal hash is not a proof, so whoever tells of the count compares these.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa

from alignset.transforms.columns.batches import batch_of, bucket_order
from alignset.transforms.duplicates.contents import digests_of
from alignset.transforms.shards.listed_pairs import keys_of
from alignset.transforms.shards.shard_places import ShardPlaces
from alignset.transforms.shards.shard_stats import MOST_PAIRS, Copies, NearPair
from alignset.transforms.storage.blocks import BUCKET, Blocks, Bucket, unpacked
from alignset.transforms.storage.parquet_files import read_rows

_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd: perceptual hashes do not fill their top bits evenly


@dataclass(eq=False)
class SampleNear(beam.PTransform):
    """Numbers of shards that hold something to parts of their `Copies`: `near` and `near_pairs`."""

    out: str
    blocks: Blocks
    buckets: int

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        read = _ReadHashes(self.out, self.blocks, self.buckets)
        return (
            shards
            | "ReadHashes" >> beam.ParDo(read).with_output_types(BUCKET)
            | "ByHash" >> beam.GroupByKey()
            | "SampleHashes" >> beam.MapTuple(lambda _, blocks: sample_near(unpacked(blocks)))
        )


class _ReadHashes(beam.DoFn):
    def __init__(self, out: str, blocks: Blocks, buckets: int) -> None:
        self.places, self.blocks, self.buckets = ShardPlaces(out), blocks, buckets

    def process(self, shard: int) -> Iterator[Bucket]:
        rows = hashes_of(shard, read_rows(self.places.sidecar(shard), ["key", "sha256", "phash"]))
        order, slices = bucket_order(rows["mixed"].to_numpy(), self.buckets)
        rows = rows.take(pa.array(order))
        parts = [rows.slice(start, stop - start) for _, start, stop in slices]
        yield from zip([at for at, _, _ in slices], self.blocks.pack(parts), strict=True)


def hashes_of(shard: int, rows: pa.Table) -> pa.RecordBatch:
    """The contents of a shard with their perceptual hashes, each once: `mixed` (the hash),
    `content`, `key` and `shard`."""
    rows = rows.filter(pa.compute.and_(rows["sha256"].is_valid(), rows["phash"].is_valid()))
    content, keys = digests_of(rows["sha256"])[0], keys_of(rows["key"])
    mixed = keys_of(rows["phash"]) * _MIX
    order = np.lexsort((keys, content))
    first = order[np.unique(content[order], return_index=True)[1]]
    columns = {"mixed": mixed, "content": content, "key": keys}
    first_rows = {name: column[first] for name, column in columns.items()}
    return batch_of(first_rows | {"shard": np.full(len(first), shard)})


def sample_near(rows: pa.Table) -> Copies:
    """Counts the contents whose hash another has, and chooses a few pairs of them.

    Args:
      rows: all that `hashes_of` gave of these hashes.
    """
    mixed, content, key, shard = (
        rows[name].to_numpy() for name in ("mixed", "content", "key", "shard")
    )
    order = np.lexsort((key, content, mixed))
    is_first = np.ones(len(order), np.bool_)
    same_hash = mixed[order][1:] == mixed[order][:-1]
    is_first[1:] = ~same_hash | (content[order][1:] != content[order][:-1])
    order = order[is_first]
    hashes, starts, counts = np.unique(mixed[order], return_index=True, return_counts=True)
    repeats = np.flatnonzero(counts > 1)[:MOST_PAIRS]  # the mixed hash is a random order
    pairs = [
        NearPair(int(hashes[at]), *((int(shard[row]), f"{key[row]:016x}") for row in two))
        for at in repeats.tolist()
        for two in [order[starts[at] : starts[at] + 2].tolist()]
    ]
    return Copies(near=int(counts[counts > 1].sum()), near_pairs=pairs)
