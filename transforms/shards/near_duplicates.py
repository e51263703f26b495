"""How many images of a set look like another of it: they share its perceptual hash.

They stay in the set, as in the paper; this only tells how many there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa

from alignset.transforms.columns.batches import batch_of
from alignset.transforms.columns.hashing import UInt64s, string_hashes
from alignset.transforms.shards.shard_places import ShardPlaces
from alignset.transforms.shards.shard_stats import NearDuplicates
from alignset.transforms.storage.blocks import BUCKET, Blocks, Bucket, unpacked
from alignset.transforms.storage.parquet_files import read_rows

_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd: perceptual hashes do not fill their top bits evenly


def add_near_duplicates(parts: Iterable[NearDuplicates]) -> NearDuplicates:
    """Adds up those of different hashes."""
    counts = list(parts)
    return NearDuplicates(sum(c.images for c in counts), sum(c.hashes for c in counts))


def count_near_duplicates(phashes: UInt64s, urls: UInt64s) -> NearDuplicates:
    """Counts the images whose perceptual hash another has.

    Args:
      phashes: uint64[n]. urls: uint64[n], hashes of the images' URLs; a pair may stand there twice.
    """
    order = np.lexsort((urls, phashes))
    phashes, urls = phashes[order], urls[order]
    is_first = np.ones(len(phashes), np.bool_)
    is_first[1:] = (phashes[1:] != phashes[:-1]) | (urls[1:] != urls[:-1])
    _, images = np.unique(phashes[is_first], return_counts=True)
    shared = images[images > 1]
    return NearDuplicates(int(shared.sum()), len(shared))


def images_of(sidecar: str) -> tuple[UInt64s, UInt64s]:
    """uint64[n] perceptual hashes, and uint64[n] hashes of URLs, of a shard's pairs."""
    table = read_rows(sidecar, ["phash", "url"])
    phashes = np.array([int(phash, 16) for phash in table["phash"].to_pylist()], np.uint64)
    urls = string_hashes(table["url"].combine_chunks()) if len(table) else phashes
    return phashes, urls


@dataclass(eq=False)
class CountNearDuplicates(beam.PTransform):
    """Numbers of shards that hold something to a singleton, the `NearDuplicates` of them all."""

    out: str
    blocks: Blocks

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        read = _ReadHashes(self.out, self.blocks)
        return (
            shards
            | beam.ParDo(read).with_output_types(BUCKET)
            | "ByHash" >> beam.GroupByKey()
            | "CountShared" >> beam.MapTuple(_count)
            | beam.CombineGlobally(add_near_duplicates)
        )


class _ReadHashes(beam.DoFn):
    def __init__(self, out: str, blocks: Blocks) -> None:
        self.places, self.blocks = ShardPlaces(out), blocks

    def process(self, shard: int) -> Iterator[Bucket]:
        phashes, urls = images_of(self.places.sidecar(shard))
        bucket = (phashes * _MIX >> np.uint64(58)).astype(np.int64)
        numbers = np.unique(bucket).tolist()
        parts = [
            batch_of({"phash": phashes[bucket == number], "url": urls[bucket == number]})
            for number in numbers
        ]
        yield from zip(numbers, self.blocks.pack(parts), strict=True)


def _count(_: int, blocks: Iterable[pa.RecordBatch]) -> NearDuplicates:
    images = unpacked(blocks)
    return count_near_duplicates(images["phash"].to_numpy(), images["url"].to_numpy())
