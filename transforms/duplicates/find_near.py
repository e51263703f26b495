"""Images to train on that look like a better one, over all shards: `near_groups.py` in Beam."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.columns.batches import bucket_order
from alignset.transforms.columns.hashing import UInt64s
from alignset.transforms.duplicates.contents import (
    BETTER,
    bucketed,
    digests_of,
    near_contents,
    starts_of,
)
from alignset.transforms.duplicates.near_groups import (
    CELLS_OF_EACH,
    EDGE,
    MOST_IN_CELL,
    NODE,
    SAMPLED_A_CELL,
    Edges,
    Nodes,
    as_block,
    by_rank,
    find_centres,
    follow,
    lead,
    leaving,
    nearest_cells,
    rows_of,
    settle,
    staying,
)
from alignset.transforms.shards.descriptors import has_looks, looks_in, looks_of, stored_planes
from alignset.transforms.shards.listed_pairs import keys_of
from alignset.transforms.shards.shard_files import LOOK_SCHEMA
from alignset.transforms.shards.shard_places import HOLDOUT, ShardPlaces
from alignset.transforms.shards.shard_stats import Copies
from alignset.transforms.storage.blocks import BUCKET, Blocks, Bucket, unpack, unpacked
from alignset.transforms.storage.parquet_files import read_rows

# Of joins. Chains of leaders that are longer are not settled, and what hangs on them stays.
_ROUNDS = 6
_COLUMNS = ("key", "sha256", "original_width", "original_height")
_BORDER = np.uint64(1 << 63)
_MOST_AREA = (1 << 62) - 1


@dataclass(eq=False)
class FindNear(beam.PTransform):
    """{"shards": numbers of those that hold something, "contents": blocks of `contents_of`} to
    {"contents": blocks of `near_contents`, "copies": parts of `Copies`}.

    Args:
      out: the output. max_texts: a content with more goes whole, and for it nothing goes.
      buckets: a power of two. cells: how many.
    """

    out: str
    max_texts: int
    blocks: Blocks
    buckets: int
    cells: int

    def expand(self, inputs: dict[str, beam.PCollection]) -> dict[str, beam.PCollection]:
        blocks, buckets = self.blocks, self.buckets
        nodes = (
            inputs["shards"]
            | "OfTraining" >> beam.Filter(lambda shard: shard < HOLDOUT)
            | "SpreadLooks" >> beam.Reshuffle()
            | "ReadLooks" >> beam.ParDo(_ReadLooks(self)).with_output_types(BUCKET)
        )
        stays = beam.ParDo(_Stay(self.max_texts, blocks)).with_output_types(BUCKET)
        there = {"contents": inputs["contents"], "nodes": nodes}
        there = there | "WithTexts" >> beam.CoGroupByKey() | "Stay" >> stays
        sample = there | "Sample" >> beam.Map(_sampled, buckets, self.cells)
        centres = (
            sample.pipeline
            | "OfCells" >> beam.Create([None])
            | "FindCentres" >> beam.Map(_centres, beam.pvalue.AsIter(sample), self.cells)
        )
        to_cells = beam.ParDo(_ToCells(blocks), beam.pvalue.AsSingleton(centres))
        cells = there | "ToCells" >> to_cells.with_output_types(BUCKET)
        led = (
            cells
            | "ByCell" >> beam.GroupByKey()
            | "Lead" >> beam.ParDo(_Lead(blocks, buckets)).with_outputs("copies", main="edges")
        )
        edges = led.edges
        edges.element_type = BUCKET
        for number in range(_ROUNDS):
            last = number + 1 == _ROUNDS
            settled = beam.ParDo(_Settle(blocks, buckets, last=last)).with_output_types(BUCKET)
            edges = edges | f"Edges{number}" >> beam.GroupByKey() | f"Settle{number}" >> settled
        return {"contents": edges, "copies": led.copies}


class _ReadLooks(beam.DoFn):
    def __init__(self, settings: FindNear) -> None:
        self.places, self.blocks = ShardPlaces(settings.out), settings.blocks
        self.buckets = settings.buckets

    def process(self, shard: int) -> Iterator[Bucket]:
        nodes = nodes_of(self.places, shard)
        yield from _by_bucket(nodes, nodes["hi"], self.blocks, self.buckets)


def nodes_of(places: ShardPlaces, shard: int) -> Nodes:
    """The pictures of a shard, each content once. Where its sidecar does not say how they look,
    they are looked at."""
    path = places.sidecar(shard)
    known = has_looks(path)
    rows = read_rows(path, [*_COLUMNS, *(LOOK_SCHEMA.names if known else ())])
    rows = rows.filter(rows["sha256"].is_valid())
    hi, lo = digests_of(rows["sha256"])
    keys = keys_of(rows["key"])
    order = np.lexsort((keys, lo, hi))
    at = np.sort(order[starts_of(hi[order], lo[order])])
    if not known:
        seen, planes = stored_planes(places.tar(shard), set(keys[at].tolist()))
        at = np.flatnonzero(np.isin(keys, seen))
        at = at[np.argsort(keys[at])]
    rows, keys = rows.take(pa.array(at)), keys[at]
    nodes = np.zeros(len(at), NODE)
    nodes["key"], nodes["hi"], nodes["lo"] = keys, hi[at], lo[at]
    nodes["look"] = looks_in(rows) if known else looks_of(planes[np.argsort(seen)])
    sides = (pc.fill_null(rows[name], 0).to_numpy() for name in _COLUMNS[2:])
    width, height = (side.astype(np.uint64) for side in sides)
    smaller = np.uint64(_MOST_AREA) - width * height
    nodes["rank"] = np.where(nodes["look"]["has_border"], smaller | _BORDER, smaller)
    return nodes


def _by_bucket(
    rows: npt.NDArray[Any], hashes: UInt64s, blocks: Blocks, buckets: int
) -> Iterator[Bucket]:
    order, slices = bucket_order(hashes, buckets)
    rows = rows[order]
    parts = [as_block(rows[start:stop]) for _, start, stop in slices]
    yield from zip([number for number, _, _ in slices], blocks.pack(parts), strict=True)


class _Stay(beam.DoFn):
    def __init__(self, max_texts: int, blocks: Blocks) -> None:
        self.max_texts, self.blocks = max_texts, blocks

    def process(self, element):  # type: ignore[no-untyped-def]  # Beam would read hints
        bucket, there = element
        nodes = rows_of(map(unpack, there["nodes"]), NODE)
        if len(nodes):
            nodes = staying(unpacked(there["contents"]), nodes, self.max_texts)
            yield from zip([bucket], self.blocks.pack([as_block(nodes)]), strict=True)


def _sampled(element: Bucket, buckets: int, cells: int) -> pa.RecordBatch:
    """Some of the pictures of a bucket: those with the smallest hashes, enough in all."""
    nodes = rows_of([unpack(element[1])], NODE)
    # A bucket is by the other half of the content. Flat pictures have no descriptor.
    nodes = nodes[nodes["look"]["descriptor"].any(axis=1)]
    enough = 2 * SAMPLED_A_CELL * -(-cells // buckets)
    return as_block(nodes[np.argsort(nodes["lo"], kind="stable")][:enough])


def _centres(_: None, sample: Iterable[pa.RecordBatch], cells: int) -> npt.NDArray[np.int8]:
    nodes = rows_of(sample, NODE)
    nodes = nodes[np.argsort(nodes["lo"], kind="stable")][: SAMPLED_A_CELL * cells]
    return find_centres(nodes["look"]["descriptor"], cells)


class _ToCells(beam.DoFn):
    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks

    def process(self, element: Bucket, centres: npt.NDArray[np.int8]) -> Iterator[Bucket]:
        nodes = rows_of([unpack(element[1])], NODE)
        nodes = nodes[nodes["look"]["descriptor"].any(axis=1)]
        if not len(nodes):
            return
        cells = nearest_cells(nodes["look"]["descriptor"], centres, CELLS_OF_EACH)
        whole = np.repeat(nodes, cells.shape[1])
        whole["home"] = np.arange(len(whole)) % cells.shape[1] == 0
        cell = cells.ravel()
        order = np.argsort(cell, kind="stable")
        starts = np.flatnonzero(starts_of(cell[order]))
        parts = [as_block(part) for part in np.split(whole[order], starts[1:])]
        yield from zip(cell[order][starts].tolist(), self.blocks.pack(parts), strict=True)


class _Lead(beam.DoFn):
    """The pictures of a cell, of which no more are in memory at once than may lead, and a block."""

    def __init__(self, blocks: Blocks, buckets: int) -> None:
        self.blocks, self.buckets = blocks, buckets

    def process(self, element):  # type: ignore[no-untyped-def]  # Beam would read hints
        best, count = np.zeros(0, NODE), 0
        for block in element[1]:
            some = rows_of([unpack(block)], NODE)
            best, count = np.concatenate([best, some]), count + len(some)
            if len(best) > 2 * MOST_IN_CELL:
                best = by_rank(best)[:MOST_IN_CELL]
        best = by_rank(best)[:MOST_IN_CELL]
        led = lead(best)
        yield beam.pvalue.TaggedOutput(
            "copies", Copies(graphics=led.graphics, distances=led.distances.tolist())
        )
        yield from self._sent(led.edges)
        for block in element[1] if count > len(best) else ():
            some = rows_of([unpack(block)], NODE)
            yield from self._sent(follow(some[~np.isin(some["key"], best["key"])], led.leaders))

    def _sent(self, edges: Edges) -> Iterator[Bucket]:
        """Each edge at both its ends."""
        there = edges.copy()
        there["at_leader"] = True
        yield from _at_ends(np.concatenate([edges, there]), self.blocks, self.buckets)


def _at_ends(edges: Edges, blocks: Blocks, buckets: int) -> Iterator[Bucket]:
    ends = np.where(edges["at_leader"], edges["leader"], edges["item"])
    return _by_bucket(edges, ends, blocks, buckets)


class _Settle(beam.DoFn):
    def __init__(self, blocks: Blocks, buckets: int, *, last: bool) -> None:
        self.blocks, self.buckets, self.last = blocks, buckets, last

    def process(self, element):  # type: ignore[no-untyped-def]  # Beam would read hints
        edges = rows_of(map(unpack, element[1]), EDGE)
        if not self.last:
            yield from _at_ends(settle(edges), self.blocks, self.buckets)
        elif len(left := leaving(edges)):
            hi, lo, kept = (left[name].copy() for name in ("hi", "lo", "leader"))
            numbers, parts = bucketed(near_contents(hi, lo, kept, BETTER), self.buckets)
            yield from zip(numbers, self.blocks.pack(parts), strict=True)
