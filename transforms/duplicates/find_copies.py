"""Finds what leaves the shards of a dataset since its image is there twice, and writes it down.

It follows from the sidecars alone, so an attempt that was killed is simply done again. No shard
changes here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.duplicates.contents import COLUMNS, CopyRules, bucketed, contents_of
from alignset.transforms.duplicates.find_near import FindNear
from alignset.transforms.duplicates.held_out_copies import FindHeldOutCopies
from alignset.transforms.duplicates.judge_contents import judge_contents, leaving_pairs
from alignset.transforms.shards.leaving_pairs import name_of, write_leaving
from alignset.transforms.shards.shard_places import ShardPlaces
from alignset.transforms.shards.shard_stats import Copies
from alignset.transforms.storage.blocks import BUCKET, Blocks, Bucket, unpacked
from alignset.transforms.storage.parquet_files import read_rows

GROUPS = 1024  # of shards: what the buckets say of each is one block
ROWS_PER_BUCKET = 1 << 21  # of 48 bytes
MOST_BUCKETS = 4096


def bucket_count(pairs: int) -> int:
    """How many buckets the contents of so many pairs, about, are judged in: a power of two."""
    return min(MOST_BUCKETS, 64 << (pairs // (64 * ROWS_PER_BUCKET)).bit_length())


@dataclass(eq=False)
class FindCopies(beam.PTransform):
    """Numbers of shards that hold something to parts of their `Copies`.

    Args:
      out: the output. folder: for what leaves, as `leaving_pairs.py` has it.
      work: a run's folder, for an index of held-out images and what it is made of.
      buckets: a power of two. cells: for near-duplicates, where these are asked for.
      descriptors: a folder of training images' descriptors, where near-duplicates of held-out
        images are looked for; else "".
    """

    out: str
    folder: str
    work: str
    rules: CopyRules
    blocks: Blocks
    buckets: int = 64
    cells: int = 1
    descriptors: str = ""

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        places, how = ShardPlaces(self.out), (self.blocks, self.buckets)
        read = beam.FlatMap(_read_contents, places, self.rules.texts_of_shard, *how)
        contents = [shards | "ReadContents" >> read.with_output_types(BUCKET)]
        copies = []
        if self.descriptors:
            find = self.descriptors, self.blocks, self.buckets
            contents.append(shards | FindHeldOutCopies(self.out, self.work, *find))
        if self.rules.near:
            find_near = FindNear(self.out, self.rules.max_texts, *how, self.cells)
            near = {"shards": shards, "contents": contents[0]} | find_near
            contents.append(near["contents"])
            copies.append(near["copies"])
        judge = beam.FlatMap(_judge, self.rules, self.blocks)
        leaving = (
            contents
            | "Contents" >> beam.Flatten()
            | "ByContent" >> beam.GroupByKey()
            | "JudgeContents" >> judge.with_output_types(BUCKET)
            | "ByShards" >> beam.GroupByKey()
            | "PlanLeaving" >> beam.FlatMap(_plan_leaving, places, self.folder)
        )
        return [leaving, *copies] | "Copies" >> beam.Flatten()


def _read_contents(
    shard: int, places: ShardPlaces, max_texts: int, blocks: Blocks, buckets: int
) -> Iterator[Bucket]:
    contents = contents_of(shard, read_rows(places.sidecar(shard), COLUMNS), max_texts)
    numbers, parts = bucketed(contents, buckets)
    yield from zip(numbers, blocks.pack(parts), strict=True)


def _judge(element, rules, blocks):  # type: ignore[no-untyped-def]  # Beam would read hints
    """Blocks of verdicts by groups of shards."""
    verdicts = judge_contents(unpacked(element[1]), rules)
    groups = verdicts["shard"].to_numpy() % GROUPS
    numbers = np.unique(groups).tolist()
    parts = [verdicts.filter(pa.array(groups == number)) for number in numbers]
    yield from zip(numbers, blocks.pack(parts), strict=True)


def _plan_leaving(element, places, folder):  # type: ignore[no-untyped-def]  # as above
    verdicts = unpacked(element[1])
    for shard in sorted({*verdicts["shard"].to_pylist()}):
        rows = read_rows(places.sidecar(shard), ["key", "url", "sha256"])
        leaving = leaving_pairs(rows, verdicts.filter(pc.equal(verdicts["shard"], shard)))
        write_leaving(folder, name_of(shard), leaving)
        yield Copies(dict(Counter(leaving["reason"].to_pylist())))
