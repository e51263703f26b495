"""Finds what leaves the shards of a dataset since its image is there twice, and writes it down.

Each shard that pairs leave or join has files of its own in a folder. They follow from the sidecars
alone, so an attempt that was killed is simply done again. No shard changes here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alignset.transforms.columns.rejects import key_column
from alignset.transforms.duplicates.contents import (
    COLUMNS,
    NOWHERE,
    CopyRules,
    bucketed,
    contents_of,
)
from alignset.transforms.duplicates.find_near import FindNear
from alignset.transforms.duplicates.held_out_copies import FindHeldOutCopies
from alignset.transforms.duplicates.judge_contents import (
    NEAR,
    REASONS,
    judge_contents,
    leaving_pairs,
)
from alignset.transforms.duplicates.near_sample import SampleNear
from alignset.transforms.shards.changed_pairs import LEAVING, ChangePlaces
from alignset.transforms.shards.joined_pairs import FIRST_URL
from alignset.transforms.shards.listed_pairs import keys_of
from alignset.transforms.shards.shard_places import ShardPlaces
from alignset.transforms.shards.shard_stats import Copies
from alignset.transforms.shards.stated_opt_outs import reported_opt_outs
from alignset.transforms.storage.blocks import BUCKET, Blocks, Bucket, unpacked
from alignset.transforms.storage.files import exists, write_atomically
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
      out: the output. folder: for what is to change, as `ChangePlaces` has it.
      buckets: a power of two. cells: for near-duplicates, where these are asked for.
      descriptors: a folder of training images' descriptors, where near-duplicates of held-out
        images are looked for; else "".
    """

    out: str
    folder: str
    rules: CopyRules
    blocks: Blocks
    fence: Fence
    buckets: int = 64
    cells: int = 1
    descriptors: str = ""

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        read = _ReadContents(self.out, self.rules, self.blocks, self.buckets)
        contents = [shards | "ReadContents" >> beam.ParDo(read).with_output_types(BUCKET)]
        if self.descriptors:
            how = self.descriptors, self.blocks, self.fence, self.buckets
            contents.append(shards | FindHeldOutCopies(self.out, self.folder, *how))
        if self.rules.near:
            find = FindNear(self.out, self.rules.max_texts, self.blocks, self.buckets, self.cells)
            near_outputs = {"shards": shards, "contents": contents[0]} | find
            contents.append(near_outputs["contents"])
            near = near_outputs["copies"]
        else:
            near = shards | SampleNear(self.out, self.blocks, self.buckets)
        outcomes = (
            contents
            | "Contents" >> beam.Flatten()
            | "ByContent" >> beam.GroupByKey()
            | "JudgeContents"
            >> beam.ParDo(_JudgeContents(self.rules, self.blocks)).with_outputs(main="verdicts")
        )
        outcomes.verdicts.element_type = BUCKET
        plan = _PlanLeaving(self.out, self.folder, self.blocks, self.fence)
        leaving = (
            outcomes.verdicts
            | "ByShards" >> beam.GroupByKey()
            | "PlanLeaving" >> beam.ParDo(plan).with_outputs(main="moves")
        )
        leaving.moves.element_type = BUCKET
        joining = (
            leaving.moves
            | "ByTarget" >> beam.GroupByKey()
            | "PlanJoining" >> beam.ParDo(_PlanJoining(self.folder, self.fence))
        )
        return (outcomes.copies, leaving.copies, joining, near) | "Copies" >> beam.Flatten()


class _ReadContents(beam.DoFn):
    def __init__(self, out: str, rules: CopyRules, blocks: Blocks, buckets: int) -> None:
        self.places, self.rules, self.blocks, self.buckets = (
            ShardPlaces(out),
            rules,
            blocks,
            buckets,
        )

    def process(self, shard: int) -> Iterator[Bucket]:
        rows = read_rows(self.places.sidecar(shard), COLUMNS)
        contents = contents_of(shard, rows, self.rules.texts_of_shard)
        numbers, parts = bucketed(contents, self.buckets)
        yield from zip(numbers, self.blocks.pack(parts), strict=True)


def _copies(copies: Copies) -> beam.pvalue.TaggedOutput:
    return beam.pvalue.TaggedOutput("copies", copies)


def _by_shards(rows: pa.RecordBatch, name: str, blocks: Blocks) -> Iterator[Bucket]:
    """Blocks by groups of the shards that a column names."""
    groups = rows[name].to_numpy() % GROUPS
    numbers = np.unique(groups).tolist()
    parts = [rows.filter(pa.array(groups == number)) for number in numbers]
    yield from zip(numbers, blocks.pack(parts), strict=True)


def _of_each(rows: pa.Table, name: str) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The rows of each shard that a column names, the smallest number first."""
    rows = rows.combine_chunks()
    for shard in sorted(set(rows[name].to_pylist())):
        part = rows.filter(pc.equal(rows[name], shard)).combine_chunks()
        yield shard, part.to_batches()[0]


class _JudgeContents(beam.DoFn):
    def __init__(self, rules: CopyRules, blocks: Blocks) -> None:
        self.rules, self.blocks = rules, blocks

    def process(self, element: Any) -> Iterator[Any]:
        outcome = judge_contents(unpacked(element[1]), self.rules)
        if outcome.shared.images:
            yield _copies(Copies(shared=outcome.shared, groups=outcome.groups))
        if len(outcome.verdicts):
            yield from _by_shards(outcome.verdicts, "shard", self.blocks)


class _PlanLeaving(beam.DoFn):
    def __init__(self, out: str, folder: str, blocks: Blocks, fence: Fence) -> None:
        self.places, self.plan, self.blocks = ShardPlaces(out), ChangePlaces(folder), blocks
        self.fence = fence

    def process(self, element: Any) -> Iterator[Any]:
        moves = []
        for shard, verdicts in _of_each(unpacked(element[1]), "shard"):
            rows = read_rows(self.places.sidecar(shard))
            leaving = leaving_pairs(rows, verdicts)
            self._write(shard, leaving)
            is_moved = pc.not_equal(leaving["target"], NOWHERE)
            goes, drops = leaving.filter(is_moved), leaving.filter(pc.invert(is_moved))
            drop_counts = Counter(str(REASONS[code]) for code in drops["reason"].to_pylist())
            is_dropped = pc.is_in(pa.array(keys_of(rows["key"])), value_set=drops["key"])
            opt_outs = reported_opt_outs(rows.select(["opted_out"]).filter(is_dropped).to_pylist())
            yield _copies(Copies([shard], dict(drop_counts), len(goes), opt_outs))
            if len(goes):
                moves.append(_moved_rows(rows, goes, self.places.moved(shard)))
        if moves:
            table = pa.concat_tables(moves).combine_chunks()
            yield from _by_shards(table.to_batches()[0], "target", self.blocks)

    def _write(self, shard: int, leaving: pa.RecordBatch) -> None:
        reasons = pa.array([REASONS[code] for code in leaving["reason"].to_pylist()], pa.string())
        details = key_column(leaving["kept"].to_numpy())
        details = pc.if_else(
            pc.equal(leaving["kept"], pa.scalar(0, pa.uint64())),
            pa.scalar(None, pa.string()),
            details,
        )
        columns = [leaving["key"], reasons, details, pc.equal(leaving["reason"], NEAR)]
        table = pa.table(columns, schema=LEAVING)
        self.fence.check()
        write_atomically(self.plan.leaving(shard), lambda sink: pq.write_table(table, sink))


def _moved_rows(rows: pa.Table, goes: pa.RecordBatch, moved: str) -> pa.Table:
    """The rows of a sidecar that move, with `kept`, `target` and FIRST_URL.

    Args:
      moved: the path of the first URLs of those that moved before.
    """
    at = pc.index_in(pa.array(keys_of(rows["key"])), goes["key"])
    rows, at = rows.filter(at.is_valid()).combine_chunks(), at.drop_null()
    urls = rows["url"]
    if exists(moved):
        before = read_rows(moved)
        earlier = before["url"].take(pc.index_in(rows["key"], before["key"].combine_chunks()))
        urls = pc.coalesce(earlier, urls)
    columns = {"kept": goes["kept"].take(at), "target": goes["target"].take(at), FIRST_URL: urls}
    for name, column in columns.items():
        rows = rows.append_column(name, column)
    return rows


class _PlanJoining(beam.DoFn):
    def __init__(self, folder: str, fence: Fence) -> None:
        self.plan, self.fence = ChangePlaces(folder), fence

    def process(self, element: Any) -> Iterator[Any]:
        for shard, rows in _of_each(unpacked(element[1]), "target"):
            table = pa.Table.from_batches([rows]).sort_by("key").drop_columns(["target"])
            self.fence.check()
            write_atomically(self.plan.joining(shard), partial(pq.write_table, table))
            yield Copies([shard])
