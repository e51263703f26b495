"""Finds what leaves the shards of a dataset since its image is there twice, and writes it down.

It follows from the sidecars alone, so an attempt that was killed is simply done again. No shard
changes here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.duplicates.contents import COLUMNS, CopyRules, bucketed, contents_of
from alignset.transforms.duplicates.find_near import FindNear
from alignset.transforms.duplicates.held_out_copies import FindHeldOutCopies
from alignset.transforms.duplicates.judge_contents import judge_contents, leaving_pairs
from alignset.transforms.shards.leaving_pairs import Leaving, name_of, write_leaving
from alignset.transforms.shards.shard_places import ShardPlaces
from alignset.transforms.shards.shard_stats import Copies
from alignset.transforms.storage.blocks import BUCKET, Blocks, Bucket, unpacked
from alignset.transforms.storage.parquet_files import read_rows
from alignset.transforms.workers.fencing import Fence

GROUPS = 1024  # of shards: what the buckets say of each is one block
ROWS_PER_BUCKET = 1 << 21  # of 64 bytes
MOST_BUCKETS = 4096


def bucket_count(pairs: int) -> int:
    """How many buckets the contents of so many pairs, about, are judged in: a power of two."""
    return min(MOST_BUCKETS, 64 << (pairs // (64 * ROWS_PER_BUCKET)).bit_length())


@dataclass(eq=False)
class FindCopies(beam.PTransform):
    """Numbers of shards that hold something to parts of their `Copies`.

    Args:
      out: the output. folder: for what leaves, as `leaving_pairs.py` has it. work: for an index.
      buckets: a power of two. cells: for near-duplicates, where these are asked for.
      descriptors: a folder of training images' descriptors, where near-duplicates of held-out
        images are looked for; else "".
    """

    out: str
    folder: str
    work: str
    rules: CopyRules
    blocks: Blocks
    fence: Fence
    buckets: int = 64
    cells: int = 1
    descriptors: str = ""

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        read = _ReadContents(self.out, self.rules, self.blocks, self.buckets)
        contents = [shards | "ReadContents" >> beam.ParDo(read).with_output_types(BUCKET)]
        copies = []
        if self.descriptors:
            how = self.descriptors, self.blocks, self.fence, self.buckets
            contents.append(shards | FindHeldOutCopies(self.out, self.work, *how))
        if self.rules.near:
            find = FindNear(self.out, self.rules.max_texts, self.blocks, self.buckets, self.cells)
            near = {"shards": shards, "contents": contents[0]} | find
            contents.append(near["contents"])
            copies.append(near["copies"])
        plan = _PlanLeaving(self.out, self.folder, self.fence)
        leaving = (
            contents
            | "Contents" >> beam.Flatten()
            | "ByContent" >> beam.GroupByKey()
            | "JudgeContents"
            >> beam.FlatMap(_judge, self.rules, self.blocks).with_output_types(BUCKET)
            | "ByShards" >> beam.GroupByKey()
            | "PlanLeaving" >> beam.ParDo(plan)
        )
        return [leaving, *copies] | "Copies" >> beam.Flatten()


class _ReadContents(beam.DoFn):
    def __init__(self, out: str, rules: CopyRules, blocks: Blocks, buckets: int) -> None:
        self.places, self.rules = ShardPlaces(out), rules
        self.blocks, self.buckets = blocks, buckets

    def process(self, shard: int) -> Iterator[Bucket]:
        rows = read_rows(self.places.sidecar(shard), COLUMNS)
        contents = contents_of(shard, rows, self.rules.texts_of_shard)
        numbers, parts = bucketed(contents, self.buckets)
        yield from zip(numbers, self.blocks.pack(parts), strict=True)


def _judge(element, rules, blocks):  # type: ignore[no-untyped-def]  # Beam would read hints
    """Blocks of verdicts by groups of shards."""
    verdicts = judge_contents(unpacked(element[1]), rules)
    groups = verdicts["shard"].to_numpy() % GROUPS
    numbers = np.unique(groups).tolist()
    parts = [verdicts.filter(pa.array(groups == number)) for number in numbers]
    yield from zip(numbers, blocks.pack(parts), strict=True)


class _PlanLeaving(beam.DoFn):
    def __init__(self, out: str, folder: str, fence: Fence) -> None:
        self.places, self.folder, self.fence = ShardPlaces(out), folder, fence

    def process(self, element: Any) -> Iterator[Copies]:
        verdicts = unpacked(element[1]).combine_chunks()
        for shard in sorted(set(verdicts["shard"].to_pylist())):
            (own,) = (
                verdicts.filter(pc.equal(verdicts["shard"], shard)).combine_chunks().to_batches()
            )
            rows = read_rows(self.places.sidecar(shard), ["key", "url", "sha256"])
            leaving = leaving_pairs(rows, own)
            self.fence.check()
            write_leaving(self.folder, name_of(shard), leaving)
            yield Copies(dict(Leaving(leaving).counts))
