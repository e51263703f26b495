"""Images to train on that look like a better one, over all shards: `near_groups.py` in Beam."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.arrivals.image_looks import looks_in, looks_of
from alignset.transforms.columns.batches import bucket_order
from alignset.transforms.columns.hashing import UInt64s
from alignset.transforms.columns.rejects import keys_of
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
    assign,
    by_rank,
    cluster,
    find_centres,
    leaving,
    nearest_cells,
    rows_of,
    settle,
    staying,
)
from alignset.transforms.shards.descriptors import has_looks, planes_in
from alignset.transforms.shards.shard_files import LOOK_SCHEMA
from alignset.transforms.shards.shard_places import HOLDOUT, ShardPlaces
from alignset.transforms.shards.shard_stats import Copies
from alignset.transforms.storage.blocks import BUCKET, Blocks, Bucket, unpack, unpacked
from alignset.transforms.storage.parquet_files import read_rows

# Of joins. Chains of representatives that are longer are not settled, and what hangs on them stays.
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
        how = self.blocks, self.buckets
        nodes = (
            inputs["shards"]
            | "OfTraining" >> beam.Filter(lambda shard: shard < HOLDOUT)
            | "SpreadLooks" >> beam.Reshuffle()
            | "ReadLooks" >> _blocks(_read_looks, ShardPlaces(self.out), *how)
        )
        there = (
            {"contents": inputs["contents"], "nodes": nodes}
            | "WithTexts" >> beam.CoGroupByKey()
            | "Stay" >> _blocks(_stay, self.max_texts, self.blocks)
        )
        sample = there | "Sample" >> beam.Map(_sample_of, self.buckets, self.cells)
        centres = (
            sample.pipeline
            | "OfCells" >> beam.Create([None])
            | "FindCentres" >> beam.Map(_centres, beam.pvalue.AsIter(sample), self.cells)
        )
        clusters = (
            there
            | "ToCells" >> _blocks(_to_cells, beam.pvalue.AsSingleton(centres), self.blocks)
            | "ByCell" >> beam.GroupByKey()
            | "Lead" >> beam.FlatMap(_lead, *how).with_outputs("copies", main="edges")
        )
        edges = clusters.edges
        edges.element_type = BUCKET
        for number in range(_ROUNDS):
            work = _blocks(_settle, *how, number + 1 == _ROUNDS)
            edges = edges | f"Edges{number}" >> beam.GroupByKey() | f"Settle{number}" >> work
        return {"contents": edges, "copies": clusters.copies}


def _blocks(function: Callable[..., Iterator[Bucket]], *args: object) -> beam.ParDo:
    return beam.FlatMap(function, *args).with_output_types(BUCKET)


def _read_looks(shard: int, places: ShardPlaces, blocks: Blocks, buckets: int) -> Iterator[Bucket]:
    nodes = nodes_of(places, shard)
    yield from _by_bucket(nodes, nodes["hi"], blocks, buckets)


def nodes_of(places: ShardPlaces, shard: int) -> Nodes:
    """The images of a shard, each content once. Where its sidecar does not say how they look,
    they are looked at."""
    path = places.sidecar(shard)
    has_columns = has_looks(path)
    rows = read_rows(path, [*_COLUMNS, *(LOOK_SCHEMA.names if has_columns else ())])
    rows = rows.filter(rows["sha256"].is_valid())
    hi, lo = digests_of(rows["sha256"])
    keys = keys_of(rows["key"])
    order = np.lexsort((keys, lo, hi))
    at = np.sort(order[starts_of(hi[order], lo[order])])
    if not has_columns:
        decoded_keys, planes = planes_in(places.tar(shard), set(keys[at].tolist()))
        at = np.flatnonzero(np.isin(keys, decoded_keys))
        at = at[np.argsort(keys[at])]
    rows, keys = rows.take(pa.array(at)), keys[at]
    nodes = np.zeros(len(at), NODE)
    nodes["key"], nodes["hi"], nodes["lo"] = keys, hi[at], lo[at]
    nodes["look"] = looks_in(rows) if has_columns else looks_of(planes[np.argsort(decoded_keys)])
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


def _stay(element, max_texts, blocks):  # type: ignore[no-untyped-def]  # Beam would read hints
    bucket, there = element
    nodes = rows_of(map(unpack, there["nodes"]), NODE)
    if len(nodes):
        nodes = staying(unpacked(there["contents"]), nodes, max_texts)
        yield from zip([bucket], blocks.pack([as_block(nodes)]), strict=True)


def _sample_of(element: Bucket, buckets: int, cells: int) -> pa.RecordBatch:
    """Some of the images of a bucket: those with the smallest hashes, enough in all."""
    nodes = rows_of([unpack(element[1])], NODE)
    # A bucket is by the other half of the content. Flat images have no descriptor.
    nodes = nodes[nodes["look"]["descriptor"].any(axis=1)]
    enough = 2 * SAMPLED_A_CELL * -(-cells // buckets)
    return as_block(nodes[np.argsort(nodes["lo"], kind="stable")][:enough])


def _centres(_: None, sample: Iterable[pa.RecordBatch], cells: int) -> npt.NDArray[np.int8]:
    nodes = rows_of(sample, NODE)
    nodes = nodes[np.argsort(nodes["lo"], kind="stable")][: SAMPLED_A_CELL * cells]
    return find_centres(nodes["look"]["descriptor"], cells)


def _to_cells(element: Bucket, centres: npt.NDArray[np.int8], blocks: Blocks) -> Iterator[Bucket]:
    nodes = rows_of([unpack(element[1])], NODE)
    nodes = nodes[nodes["look"]["descriptor"].any(axis=1)]
    if not len(nodes):
        return
    cells = nearest_cells(nodes["look"]["descriptor"], centres, CELLS_OF_EACH)
    whole, cell = np.repeat(nodes, cells.shape[1]), cells.ravel()
    whole["home"] = np.arange(len(whole)) % cells.shape[1] == 0
    order = np.argsort(cell, kind="stable")
    starts = np.flatnonzero(starts_of(cell[order]))
    parts = [as_block(part) for part in np.split(whole[order], starts[1:])]
    yield from zip(cell[order][starts].tolist(), blocks.pack(parts), strict=True)


def _lead(element, blocks, buckets):  # type: ignore[no-untyped-def]  # Beam would read hints
    """The edges in a cell. No more of its images are in memory than may lead, and some blocks."""
    best, count = np.zeros(0, NODE), 0
    for block in element[1]:
        some = rows_of([unpack(block)], NODE)
        best, count = np.concatenate([best, some]), count + len(some)
        if len(best) > 2 * MOST_IN_CELL:
            best = by_rank(best)[:MOST_IN_CELL]
    best = by_rank(best)[:MOST_IN_CELL]
    clusters = cluster(best)
    copies = Copies(graphics=clusters.graphics, distances=clusters.distances.tolist())
    yield beam.pvalue.TaggedOutput("copies", copies)
    yield from _at_both_ends(clusters.edges, blocks, buckets)
    for block in element[1] if count > len(best) else ():
        some = rows_of([unpack(block)], NODE)
        edges = assign(some[~np.isin(some["key"], best["key"])], clusters.representatives)
        yield from _at_both_ends(edges, blocks, buckets)


def _at_both_ends(edges: Edges, blocks: Blocks, buckets: int) -> Iterator[Bucket]:
    there = edges.copy()
    there["at_representative"] = True
    return _at_ends(np.concatenate([edges, there]), blocks, buckets)


def _at_ends(edges: Edges, blocks: Blocks, buckets: int) -> Iterator[Bucket]:
    ends = np.where(edges["at_representative"], edges["representative"], edges["item"])
    return _by_bucket(edges, ends, blocks, buckets)


def _settle(element, blocks, buckets, is_last):  # type: ignore[no-untyped-def]  # as above
    edges = rows_of(map(unpack, element[1]), EDGE)
    if not is_last:
        yield from _at_ends(settle(edges), blocks, buckets)
    elif len(final_edges := leaving(edges)):
        hi, lo, representatives = (
            final_edges[name].copy() for name in ("hi", "lo", "representative")
        )
        numbers, parts = bucketed(near_contents(hi, lo, representatives, BETTER), buckets)
        yield from zip(numbers, blocks.pack(parts), strict=True)
