"""Held-out images with a near-duplicate in training, by the index and the check of copies.

The held-out images are indexed, as evaluation images are. The descriptor of each image to train on,
which it got when it came, is looked for there; only what may match is decoded again and compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa

from alignset.transforms.decontamination.copy_index import Nearest
from alignset.transforms.decontamination.copy_thumbnails import stack_thumbnails
from alignset.transforms.decontamination.evaluation_index import EvaluationIndex, open_index
from alignset.transforms.decontamination.index_evaluation_images import IndexEvaluationImages
from alignset.transforms.decontamination.overlap_settings import EvaluationFile
from alignset.transforms.duplicates.contents import OF_TRAINING, bucketed, digests_of, near_contents
from alignset.transforms.images.examine import Image, examine
from alignset.transforms.rules.overlap import COPY_DISTANCE
from alignset.transforms.shards.descriptors import descriptors_path, read_descriptors
from alignset.transforms.shards.listed_pairs import stored_images
from alignset.transforms.shards.shard_places import HOLDOUT, ShardPlaces
from alignset.transforms.storage.blocks import BUCKET, Blocks, Bucket
from alignset.transforms.storage.parquet_files import read_rows

LEAST_COSINE = 0.8  # of what is compared place by place
_AT_ONCE = 8  # images in memory, of 20 MB each at most by default
_MOST_COMPARED = 16  # held-out images with one training image
# Where one tone fills so much of a thumbnail, images of a family look like copies: cards, charts,
# flags. There a held-out image goes only by a much smaller distance, and no part of it.
PLAIN, PLAIN_DISTANCE = 0.3, 0.1
_WHOLE = ("whole", "trimmed")


def is_near(match: Nearest) -> bool:
    """Whether a training image is a near-duplicate of a held-out one, by their comparison."""
    if float(match.numbers.get("plain", 0.0)) < PLAIN:
        return match.distance < COPY_DISTANCE
    return match.distance < PLAIN_DISTANCE and match.numbers["variant"] in _WHOLE


def held_out_matches(index: EvaluationIndex, images: Mapping[int, bytes]) -> list[tuple[str, int]]:
    """The names of held-out images with the key of a training image that shows the same.

    Args:
      images: files to train on, by their keys.
    """
    examined = {key: examine(body, keep_grey=True) for key, body in images.items()}
    looks = {key: look for key, look in examined.items() if isinstance(look, Image)}
    candidates = index.candidates(stack_thumbnails([*looks.values()]), _MOST_COMPARED)
    pairs = [
        (match.row, key)
        for key, matches in zip(looks, candidates, strict=True)
        for match in matches
        if is_near(match)
    ]
    names = index.names([row for row, _ in pairs])["name"].to_pylist()
    return [(name, key) for name, (_, key) in zip(names, pairs, strict=True)]


@dataclass(eq=False)
class FindHeldOutCopies(beam.PTransform):
    """Numbers of shards that hold something to blocks of the contents that are held out and have a
    near-duplicate in training, as `judge_contents` takes them.

    Args:
      out: the output. work: a folder for the index. descriptors: of the training images.
      buckets: of contents.
    """

    out: str
    work: str
    descriptors: str
    blocks: Blocks
    buckets: int

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        places = ShardPlaces(self.out)

        def part(shard: int) -> tuple[EvaluationFile, ...]:
            return (EvaluationFile("holdout", places.tar(shard)),)

        held_out = shards | "HeldOut" >> beam.Filter(lambda shard: shard >= HOLDOUT)
        index = (
            held_out
            | "Part" >> beam.Map(part)
            | IndexEvaluationImages(f"{self.work}/holdout-index", self.work)
        )
        search = beam.ParDo(_Search(self), beam.pvalue.AsSingleton(index["place"]))
        return (
            shards
            | "Training" >> beam.Filter(lambda shard: shard < HOLDOUT)
            | "SpreadTraining" >> beam.Reshuffle()
            | "Search" >> search.with_output_types(BUCKET)
        )


class _Search(beam.DoFn):
    def __init__(self, settings: FindHeldOutCopies) -> None:
        self.places, self.folder = ShardPlaces(settings.out), settings.descriptors
        self.blocks, self.buckets = settings.blocks, settings.buckets

    def process(self, shard: int, place: str) -> Iterator[Bucket]:
        index = open_index(place)
        if not index:
            return
        tar = self.places.tar(shard)
        path = descriptors_path(self.folder, shard)
        there = read_descriptors(path, self.places.sidecar(shard), tar)
        # An image that is everywhere, such as a placeholder, is compared once.
        vectors, first = np.unique(there.vectors, axis=0, return_index=True)
        near = index.may_match(vectors, LEAST_COSINE)
        keys = {int(there.keys[first[at]]) for at in near}
        matches: list[tuple[str, int]] = []
        if keys:
            bodies = ((int(key, 16), body) for key, body in stored_images(tar, keys))
            while some := dict(islice(bodies, _AT_ONCE)):
                matches += held_out_matches(index, some)
        if matches:
            yield from self._blocks(matches)

    def _blocks(self, matches: list[tuple[str, int]]) -> Iterator[Bucket]:
        contents: list[pa.RecordBatch] = []
        by_shard: dict[int, dict[str, int]] = {}
        for name, training in matches:
            path = Path(name)
            of_shard = by_shard.setdefault(HOLDOUT + int(path.parent.stem), {})
            held_out_key = path.name.partition(".")[0]
            of_shard[held_out_key] = min(training, of_shard.get(held_out_key, training))
        for shard, training_keys in sorted(by_shard.items()):
            rows = read_rows(self.places.sidecar(shard), ["key", "sha256"])
            mine = [key in training_keys for key in rows["key"].to_pylist()]
            rows = rows.filter(pa.array(mine, pa.bool_()))
            rows = rows.filter(rows["sha256"].is_valid())
            hi, lo = digests_of(rows["sha256"])
            keys = [training_keys[key] for key in rows["key"].to_pylist()]
            contents.append(near_contents(hi, lo, np.array(keys, np.uint64), OF_TRAINING))
        (whole,) = pa.Table.from_batches(contents).combine_chunks().to_batches()
        numbers, parts = bucketed(whole, self.buckets)
        yield from zip(numbers, self.blocks.pack(parts), strict=True)
