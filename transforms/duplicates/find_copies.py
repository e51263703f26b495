"""Finds what leaves the shards of a dataset since its image is there twice, and writes it down.

It follows from the shards alone, so an attempt that was killed is simply done again. No shard
changes here. Held-out images are indexed, as evaluation images are. The descriptor of each image to
train on, which it got when it came, is looked for there; only what may match is decoded again and
compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alignset.transforms.arrivals.image_looks import descriptors_path, read_descriptors
from alignset.transforms.arrivals.image_settings import ImageSettings
from alignset.transforms.decontamination.copy_index import Nearest
from alignset.transforms.decontamination.copy_thumbnails import stack_thumbnails
from alignset.transforms.decontamination.evaluation_index import EvaluationIndex, open_index
from alignset.transforms.decontamination.index_evaluation_images import IndexEvaluationImages
from alignset.transforms.decontamination.overlap_settings import EvaluationFile
from alignset.transforms.duplicates.contents import (
    COLUMNS,
    OF_TRAINING,
    contents_of,
    digests_of,
    judge_contents,
    leaving_pairs,
    near_contents,
)
from alignset.transforms.duplicates.find_near import FindNear
from alignset.transforms.images.examine import Image, examine
from alignset.transforms.rules.thresholds import COPY_DISTANCE
from alignset.transforms.shards.leaving_pairs import name_of, write_leaving
from alignset.transforms.shards.shard_places import HOLDOUT, ShardPlaces
from alignset.transforms.shards.shard_stats import Copies
from alignset.transforms.storage.blocks import BUCKET, Blocks, Bucket, group_by_bucket, unpacked
from alignset.transforms.storage.parquet_files import read_rows
from alignset.transforms.storage.tar_members import stored_images

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
        all_keys, all_vectors = read_descriptors(path, self.places.sidecar(shard), tar)
        # An image that is everywhere, such as a placeholder, is compared once.
        vectors, first = np.unique(all_vectors, axis=0, return_index=True)
        near = index.may_match(vectors, LEAST_COSINE)
        keys = {int(all_keys[first[at]]) for at in near}
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
        parts = group_by_bucket(whole, whole["hi"].to_numpy(), self.buckets)
        yield from self.blocks.pack_each(parts)


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
    settings: ImageSettings
    blocks: Blocks
    buckets: int = 64
    cells: int = 1
    descriptors: str = ""

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        places, how = ShardPlaces(self.out), (self.blocks, self.buckets)
        max_texts = self.settings.max_texts_per_image
        read = beam.FlatMap(_read_contents, places, max_texts, *how)
        contents = [shards | "ReadContents" >> read.with_output_types(BUCKET)]
        copies = []
        if self.descriptors:
            find = self.descriptors, self.blocks, self.buckets
            contents.append(shards | FindHeldOutCopies(self.out, self.work, *find))
        if self.settings.keeps_looks:
            find_near = FindNear(self.out, max_texts, *how, self.cells)
            near = {"shards": shards, "contents": contents[0]} | find_near
            contents.append(near["contents"])
            copies.append(near["copies"])
        judge = beam.FlatMap(_judge, self.settings, self.blocks)
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
    yield from blocks.pack_each(group_by_bucket(contents, contents["hi"].to_numpy(), buckets))


def _judge(element, settings, blocks):  # type: ignore[no-untyped-def]  # Beam would read hints
    """Blocks of verdicts by groups of shards."""
    verdicts = judge_contents(unpacked(element[1]), settings)
    groups = verdicts["shard"].to_numpy() % GROUPS
    numbers = np.unique(groups).tolist()
    yield from blocks.pack_each((n, verdicts.filter(pa.array(groups == n))) for n in numbers)


def _plan_leaving(element, places, folder):  # type: ignore[no-untyped-def]  # as above
    verdicts = unpacked(element[1])
    for shard in sorted({*verdicts["shard"].to_pylist()}):
        rows = read_rows(places.sidecar(shard), ["key", "url", "sha256"])
        leaving = leaving_pairs(rows, verdicts.filter(pc.equal(verdicts["shard"], shard)))
        write_leaving(folder, name_of(shard), leaving)
        yield Copies(dict(Counter(leaving["reason"].to_pylist())))
