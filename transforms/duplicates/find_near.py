"""Images to train on that look like a better one, over all shards.

An image is a content with its `LOOK`.

1. `find_centres`, `nearest_cells`: an image goes to the two cells whose centres are nearest to its
   descriptor.
2. `cluster`: within a cell, the best image represents a cluster, and so does each that is near no
   better representative. Each other image has edges to the representatives that it is near.
3. `assign`: images beyond the best 65,536 of a cell are compared with the representatives alone.
4. `settle`: a representative of one cell may be near a better one in another, so rounds of joins
   settle who stays; `leaving` says for what each other image leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.arrivals.image_looks import (
    LOOK,
    has_looks,
    looks_in,
    looks_of,
    thumbnails_in,
)
from alignset.transforms.columns.hashing import Bools
from alignset.transforms.columns.records import LOOK_SCHEMA, keys_of
from alignset.transforms.decontamination.copy_thumbnails import Vectors
from alignset.transforms.duplicates.contents import (
    BETTER,
    Ints,
    digests_of,
    join_halves,
    near_contents,
    ranks,
    starts_of,
)
from alignset.transforms.shards.shard_places import HOLDOUT, ShardPlaces
from alignset.transforms.shards.shard_stats import Copies
from alignset.transforms.storage.blocks import (
    BUCKET,
    Blocks,
    Bucket,
    batch_of,
    group_by_bucket,
    unpack,
    unpacked,
)
from alignset.transforms.storage.parquet_files import read_rows

# An image: its content; `key`, the smallest of its pairs; `rank`, the smaller the better; `text`,
# the hash of its only alt-text, or 0 where it has several; `home` in the nearest of its cells.
NODE = np.dtype(
    [(name, "<u8") for name in ("key", "hi", "lo", "rank", "text")]
    + [("home", "?"), ("look", LOOK)]
)
# An image (`item`, a key, and its content) that leaves if a better one, `representative`, stays.
# `said` is what is known of that. Each edge has a row at the item, and one `at_representative`.
EDGE = np.dtype(
    [(name, "<u8") for name in ("item", "hi", "lo", "representative", "rank")]
    + [("said", "i1"), ("at_representative", "?")]
)
UNKNOWN, STAYS, LEAVES = range(3)
Nodes = npt.NDArray[Any]
Edges = npt.NDArray[Any]

LEAST_COSINE, MOST_BITS, MOST_CHROMA = 0.9, 6, 8.0  # chroma: root of the mean square
# Where one tone fills so much of a thumbnail, as in charts, cards and flags, images of a family
# look like copies.
GRAPHIC_TONE = 0.3
CELL_IMAGES = 1000  # about, in a cell
MOST_CELLS = 16_384  # the centres of 100 million images take some minutes to find
CELLS_OF_EACH = 2
SAMPLED_A_CELL = 32
_TRAINING_ROUNDS = 8
# Images of a cell that may be representatives: the best. The others are only compared with those.
MOST_IN_CELL = 1 << 16
AT_ONCE = 512
_MOST_REPRESENTATIVES = 4  # of an image, that are noted
BINS = 20  # of distances, from 0 to 1


def cell_count(pictures: int) -> int:
    """How many cells so many images, about, have."""
    return max(1, min(MOST_CELLS, pictures // CELL_IMAGES))


def find_centres(sample: Vectors, count: int) -> Vectors:
    """int8[m, 64], the centres of up to `count` cells by k-means, of a sample in a random order.

    By whole numbers alone, so that every machine finds the same.

    Source: spherical k-means, Dhillon and Modha (2001).
    """
    centres = np.unique(sample[:count], axis=0)
    for _ in range(_TRAINING_ROUNDS if len(centres) > 1 else 0):
        nearest = nearest_cells(sample, centres, 1)[:, 0]
        order = np.argsort(nearest, kind="stable")
        starts = np.flatnonzero(starts_of(nearest[order]))
        sums = np.add.reduceat(sample[order].astype(np.int64), starts)
        lengths = np.sqrt((sums * sums).sum(axis=1, keepdims=True).astype(np.float64))
        centres[nearest[order][starts]] = np.rint(127 * sums / np.maximum(lengths, 1))
    return centres


def nearest_cells(vectors: Vectors, centres: Vectors, most: int) -> Ints:
    """int64[n, most], the numbers of the cells whose centres are nearest, the nearest first."""
    most = min(most, len(centres))
    cells = np.empty((len(vectors), most), np.int64)
    # Sums of products of bytes are below 2 ** 24, so exact as floats, in whatever order.
    wide = centres.astype(np.float32).T
    for first in range(0, len(vectors), AT_ONCE):
        products = vectors[first : first + AT_ONCE].astype(np.float32) @ wide
        rows = np.arange(len(products))
        for place in range(most):
            best = products.argmax(axis=1)
            cells[first : first + AT_ONCE, place] = best
            products[rows, best] = -np.inf
    return cells


def staying(contents: pa.Table, nodes: Nodes, max_texts: int) -> Nodes:
    """The images of some contents, each once, without those that have too many alt-texts.

    Args:
      contents: all that `contents_of` gave of these contents. nodes: one for each shard that has a
        content, its `key` the smallest there.
    """
    nodes = nodes[np.lexsort((nodes["key"], nodes["lo"], nodes["hi"]))]
    nodes = nodes[starts_of(nodes["hi"], nodes["lo"])]
    hi, lo, text = (contents[name].to_numpy() for name in ("hi", "lo", "text"))
    order = np.lexsort((text, lo, hi))
    order = order[starts_of(hi[order], lo[order], text[order])]
    first = np.flatnonzero(starts_of(hi[order], lo[order]))
    texts = np.diff(first, append=len(order))
    at = order[first]
    # Both are in the order of contents, and each node's content is there.
    node_contents = join_halves(nodes["hi"].copy(), nodes["lo"].copy())
    there = pc.is_in(join_halves(hi[at], lo[at]), node_contents).to_numpy(zero_copy_only=False)
    at, texts = at[there], texts[there]
    nodes["text"] = np.where(texts == 1, text[at], 0)
    return nodes[texts <= max_texts]


class Compared(NamedTuple):
    """Some images beside others.

    Fields:
      cosines: float32[n, m]. rows, columns: of the near ones, in their order. leaves: bool, whether
        such a one leaves; a graphic only does with an equal alt-text.
    """

    cosines: npt.NDArray[np.float32]
    rows: Ints
    columns: Ints
    leaves: Bools


def compare(some: Nodes, others: Nodes) -> Compared:
    """How near images are to others."""
    ours, theirs = some["look"], others["look"]
    one, two = (look["descriptor"].astype(np.float32) for look in (ours, theirs))
    # Sums of products of bytes are exact as floats, and so no order of adding shows.
    cosines = one @ two.T
    for wide, axis in ((one, 1), (two, 0)):
        lengths = np.sqrt((wide * wide).sum(axis=1))  # 0 of flat images
        cosines *= np.expand_dims(np.float32(1) / np.maximum(lengths, np.float32(1)), axis)
    rows, columns = np.nonzero(cosines >= LEAST_COSINE)
    bits = np.bitwise_count(ours["trimmed_phash"][rows] ^ theirs["trimmed_phash"][columns])
    colours = ours["chroma"][rows].astype(np.int32) - theirs["chroma"][columns]
    near = (bits <= MOST_BITS) & (
        (colours * colours).sum(axis=1) <= MOST_CHROMA**2 * colours.shape[1]
    )
    rows, columns = rows[near], columns[near]
    tone = np.maximum(ours["one_tone"][rows], theirs["one_tone"][columns])
    same_text = (some["text"][rows] == others["text"][columns]) & (some["text"][rows] != 0)
    return Compared(cosines, rows, columns, (tone < GRAPHIC_TONE) | same_text)


class Clusters(NamedTuple):
    """The representatives of a cell and who is near them.

    Fields:
      representatives: the best first. edges: EDGE, each at its item.
      graphics: how many images at home are near one and stay since they are graphics.
      distances: of images at home to the nearest that they were compared with, int64[BINS].
    """

    representatives: Nodes
    edges: Edges
    graphics: int
    distances: Ints


def sort_by_rank(nodes: Nodes) -> Nodes:
    """The best first."""
    return nodes[np.lexsort((nodes["key"], nodes["rank"]))]


def cluster(nodes: Nodes) -> Clusters:
    """Finds the clusters of a cell.

    Args:
      nodes: of the cell, the best first.
    """
    represents, is_graphic = np.zeros((2, len(nodes)), np.bool_)
    nearest = np.zeros(len(nodes), np.float32)  # the largest of each one's cosines
    edges = [np.zeros(0, EDGE)]

    def find_better(some: Ints, others: Ints) -> tuple[Ints, Ints]:
        """The images that leave, each with a better one of the others."""
        result = compare(nodes[some], nodes[others])
        if some is others:
            np.fill_diagonal(result.cosines, 0)
        if len(some) and len(others):
            nearest[some] = np.maximum(nearest[some], result.cosines.max(axis=1))
            nearest[others] = np.maximum(nearest[others], result.cosines.max(axis=0))
        rows, columns = some[result.rows], others[result.columns]
        is_better = columns < rows
        is_graphic[rows[is_better & ~result.leaves]] = True
        return rows[is_better & result.leaves], columns[is_better & result.leaves]

    for first in range(0, len(nodes), AT_ONCE):
        some = np.arange(first, min(first + AT_ONCE, len(nodes)))
        rows, columns = find_better(some, np.flatnonzero(represents))
        edges.append(_edges(nodes[rows], nodes[columns]))
        free = some[~np.isin(some, rows)]
        represents[free] = True
        rows, columns = _greedy(represents, *find_better(free, free))
        edges.append(_edges(nodes[rows], nodes[columns]))
    home = nodes["home"]
    bins = np.clip((1 - nearest[home]) * BINS, 0, BINS - 1).astype(np.int64)
    distances = np.bincount(bins, minlength=BINS)
    graphics = int((is_graphic & represents & home).sum())
    return Clusters(nodes[represents], np.concatenate(edges), graphics, distances)


def _greedy(represents: Bools, rows: Ints, columns: Ints) -> tuple[Ints, Ints]:
    """Unmarks what is near a better representative; returns the pairs of both."""
    if not len(rows):
        return rows, columns
    groups = []
    for of_row in np.split(np.arange(len(rows)), np.flatnonzero(starts_of(rows))[1:]):
        groups.append(of_row[represents[columns[of_row]]])
        represents[rows[of_row[0]]] = not len(groups[-1])
    pairs = np.concatenate(groups)
    return rows[pairs], columns[pairs]


def assign(nodes: Nodes, representatives: Nodes) -> Edges:
    """The edges of images of a cell that represent none, since it has too many."""
    edges = []
    for first in range(0, len(nodes), AT_ONCE):
        some = nodes[first : first + AT_ONCE]
        result = compare(some, representatives)
        edges.append(
            _edges(some[result.rows[result.leaves]], representatives[result.columns[result.leaves]])
        )
    return np.concatenate([np.zeros(0, EDGE), *edges])


def _edges(items: Nodes, representatives: Nodes) -> Edges:
    """The first few rows of each item: items stand together, the best representatives first."""
    edges = np.zeros(len(items), EDGE)
    for name in ("hi", "lo"):
        edges[name] = items[name]
    edges["item"], edges["representative"], edges["rank"] = (
        items["key"],
        representatives["key"],
        representatives["rank"],
    )
    if not len(edges):
        return edges
    return edges[ranks(starts_of(edges["item"])) < _MOST_REPRESENTATIVES]


def settle(edges: Edges) -> Edges:
    """One round: an image leaves if one that represents it stays, and stays if all of them leave.
    Each row goes to the other end of its edge then.

    Args:
      edges: all rows that are at some images.
    """
    own = edges[~edges["at_representative"]]
    items, item = np.unique(own["item"], return_inverse=True)
    counts = [np.bincount(item[own["said"] == answer], minlength=len(items)) for answer in range(3)]
    verdicts = np.where(counts[STAYS] > 0, LEAVES, np.where(counts[UNKNOWN] > 0, UNKNOWN, STAYS))
    result, at_representative = edges.copy(), edges["at_representative"]
    representatives = edges["representative"][at_representative]
    result["said"][at_representative] = STAYS  # what nothing represents
    if len(items):
        place = np.minimum(np.searchsorted(items, representatives), len(items) - 1)
        is_clustered = items[place] == representatives
        result["said"][at_representative] = np.where(is_clustered, verdicts[place], STAYS)
    result["at_representative"] = ~at_representative
    return result


def leaving(edges: Edges) -> Edges:
    """The edge from each image that leaves to its best representative that stays, out of all rows
    after the last round."""
    rows = edges[~edges["at_representative"] & (edges["said"] == STAYS)]
    rows = rows[np.lexsort((rows["representative"], rows["rank"], rows["item"]))]
    return rows[starts_of(rows["item"])] if len(rows) else rows


def make_block(rows: npt.NDArray[Any]) -> pa.RecordBatch:
    """Rows of NODE or EDGE as a block of one column."""
    size = rows.dtype.itemsize
    whole = pa.py_buffer(np.frombuffer(rows.tobytes(), np.uint8))
    column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(size), len(rows), [None, whole])
    return batch_of({"rows": column})


def rows_of(blocks: Iterable[pa.RecordBatch], kind: np.dtype[Any]) -> npt.NDArray[Any]:
    """The rows of blocks that `make_block` made, copied."""
    parts = [np.zeros(0, kind)]
    for block in blocks:
        column = block["rows"]
        start = column.offset * kind.itemsize
        parts.append(np.frombuffer(column.buffers()[1], kind, len(column), start))
    return np.concatenate(parts)


# Joins. Longer chains of representatives are not settled, and what hangs on them stays.
_ROUNDS = 6
_COLUMNS = ("key", "sha256", "original_width", "original_height")
_BORDER = np.uint64(1 << 63)
_MOST_AREA = (1 << 62) - 1


@dataclass(eq=False)
class FindNear(beam.PTransform):
    """{"shards": numbers of shards that hold something, "contents": blocks of `contents_of`} to
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
            | "ToCells" >> _blocks(_assign_cells, beam.pvalue.AsSingleton(centres), self.blocks)
            | "ByCell" >> beam.GroupByKey()
            | "Cluster" >> beam.FlatMap(_cluster, *how).with_outputs("copies", main="edges")
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
    yield from blocks.pack_each(group_by_bucket(make_block(nodes), nodes["hi"], buckets))


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
        decoded_keys, thumbnails = thumbnails_in(places.tar(shard), set(keys[at].tolist()))
        at = np.flatnonzero(np.isin(keys, decoded_keys))
        at = at[np.argsort(keys[at])]
    rows, keys = rows.take(pa.array(at)), keys[at]
    nodes = np.zeros(len(at), NODE)
    nodes["key"], nodes["hi"], nodes["lo"] = keys, hi[at], lo[at]
    nodes["look"] = (
        looks_in(rows) if has_columns else looks_of(thumbnails[np.argsort(decoded_keys)])
    )
    sides = (pc.fill_null(rows[name], 0).to_numpy() for name in _COLUMNS[2:])
    width, height = (side.astype(np.uint64) for side in sides)
    smaller = np.uint64(_MOST_AREA) - width * height
    nodes["rank"] = np.where(nodes["look"]["has_border"], smaller | _BORDER, smaller)
    return nodes


def _stay(element, max_texts, blocks):  # type: ignore[no-untyped-def]  # Beam would read hints
    bucket, there = element
    nodes = rows_of(map(unpack, there["nodes"]), NODE)
    if len(nodes):
        nodes = staying(unpacked(there["contents"]), nodes, max_texts)
        yield from blocks.pack_each([(bucket, make_block(nodes))])


def _sample_of(element: Bucket, buckets: int, cells: int) -> pa.RecordBatch:
    """Some of the images of a bucket: those with the smallest hashes, enough in all."""
    nodes = rows_of([unpack(element[1])], NODE)
    # A bucket is by the other half of the content. Flat images have no descriptor.
    nodes = nodes[nodes["look"]["descriptor"].any(axis=1)]
    enough = 2 * SAMPLED_A_CELL * -(-cells // buckets)
    return make_block(nodes[np.argsort(nodes["lo"], kind="stable")][:enough])


def _centres(_: None, sample: Iterable[pa.RecordBatch], cells: int) -> npt.NDArray[np.int8]:
    nodes = rows_of(sample, NODE)
    nodes = nodes[np.argsort(nodes["lo"], kind="stable")][: SAMPLED_A_CELL * cells]
    return find_centres(nodes["look"]["descriptor"], cells)


def _assign_cells(
    element: Bucket, centres: npt.NDArray[np.int8], blocks: Blocks
) -> Iterator[Bucket]:
    nodes = rows_of([unpack(element[1])], NODE)
    nodes = nodes[nodes["look"]["descriptor"].any(axis=1)]
    if not len(nodes):
        return
    cells = nearest_cells(nodes["look"]["descriptor"], centres, CELLS_OF_EACH)
    whole, cell = np.repeat(nodes, cells.shape[1]), cells.ravel()
    whole["home"] = np.arange(len(whole)) % cells.shape[1] == 0
    order = np.argsort(cell, kind="stable")
    starts = np.flatnonzero(starts_of(cell[order]))
    parts = map(make_block, np.split(whole[order], starts[1:]))
    yield from blocks.pack_each(zip(cell[order][starts].tolist(), parts, strict=True))


def _cluster(element, blocks, buckets):  # type: ignore[no-untyped-def]  # Beam would read hints
    """The edges in a cell. In memory are the images that may represent a cluster, and some
    blocks."""
    best, count = np.zeros(0, NODE), 0
    for block in element[1]:
        some = rows_of([unpack(block)], NODE)
        best, count = np.concatenate([best, some]), count + len(some)
        if len(best) > 2 * MOST_IN_CELL:
            best = sort_by_rank(best)[:MOST_IN_CELL]
    best = sort_by_rank(best)[:MOST_IN_CELL]
    clusters = cluster(best)
    copies = Copies(graphics=clusters.graphics, distances=clusters.distances.tolist())
    yield beam.pvalue.TaggedOutput("copies", copies)
    yield from _copy_to_ends(clusters.edges, blocks, buckets)
    for block in element[1] if count > len(best) else ():
        some = rows_of([unpack(block)], NODE)
        edges = assign(some[~np.isin(some["key"], best["key"])], clusters.representatives)
        yield from _copy_to_ends(edges, blocks, buckets)


def _copy_to_ends(edges: Edges, blocks: Blocks, buckets: int) -> Iterator[Bucket]:
    there = edges.copy()
    there["at_representative"] = True
    return _group_by_end(np.concatenate([edges, there]), blocks, buckets)


def _group_by_end(edges: Edges, blocks: Blocks, buckets: int) -> Iterator[Bucket]:
    ends = np.where(edges["at_representative"], edges["representative"], edges["item"])
    return blocks.pack_each(group_by_bucket(make_block(edges), ends, buckets))


def _settle(element, blocks, buckets, is_last):  # type: ignore[no-untyped-def]  # as above
    edges = rows_of(map(unpack, element[1]), EDGE)
    if not is_last:
        yield from _group_by_end(settle(edges), blocks, buckets)
    elif len(final_edges := leaving(edges)):
        hi, lo, representatives = (
            final_edges[name].copy() for name in ("hi", "lo", "representative")
        )
        contents = near_contents(hi, lo, representatives, BETTER)
        yield from blocks.pack_each(group_by_bucket(contents, hi, buckets))
