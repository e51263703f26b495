"""Copies of images in a dataset: what finds them, and what writes shards without them."""

from __future__ import annotations

import apache_beam as beam

from alignset.pipeline.command import Command
from alignset.pipeline.curate import Places
from alignset.pipeline.datasets.copy_pictures import look_at_copies
from alignset.pipeline.progress import say
from alignset.pipeline.runs.engine import Engine
from alignset.pipeline.runs.work_folder import RewrittenShards, WrittenShard
from alignset.pipeline.shown_texts import core_time, counted
from alignset.transforms.duplicates.contents import CopyRules
from alignset.transforms.duplicates.find_copies import FindCopies, bucket_count
from alignset.transforms.duplicates.near_groups import cell_count
from alignset.transforms.shards.changed_pairs import read_changes
from alignset.transforms.shards.rewrite_shards import Rewriting
from alignset.transforms.shards.shard_places import ShardPlaces
from alignset.transforms.shards.shard_stats import Copies
from alignset.transforms.storage.documents import write_document
from alignset.transforms.storage.files import exists, is_local
from alignset.transforms.workers.summaries import WriteSummary

# CPU-seconds of a photograph of 640x480 that is decoded small and described; and in colour.
DESCRIBED_S, LOOKED_AT_S = 0.001, 0.002


def copy_rules(command: Command) -> CopyRules:
    """The outcome of images with the same bytes."""
    job = command.job
    return CopyRules(
        command.rules.max_texts_per_image,
        once=job.duplicates != "keep",
        near=job.duplicates == "near",
        clean_holdout=job.holdout_copies == "drop",
    )


def descriptors_folder(command: Command, places: Places) -> str:
    """Where training images are described while they come; "" where nothing asks for it."""
    cleans = command.job.holdout and command.job.holdout_copies == "drop"
    return f"{places.work.path}/descriptors" if cleans else ""


def describing_cost(pairs: int, *, near: bool = False) -> str:
    """One line about the images of finished shards, which nobody has described."""
    if near:
        return f"looking at all images for near-duplicates: about {core_time(pairs * LOOKED_AT_S)}"
    return f"looking for held-out images in training: about {core_time(pairs * DESCRIBED_S)}"


def find_copies(rules: CopyRules, places: Places, pairs: int, descriptors: str = "") -> FindCopies:
    """Finds copies among so many pairs, about; a start of the command has a folder of its own.

    Args:
      descriptors: a folder of the training images' descriptors; "" where held-out images are only
        compared by their bytes.
    """
    folder = f"{places.work.path}/copies-{places.fence.token}"
    how = places.blocks, places.fence, bucket_count(pairs), cell_count(pairs), descriptors
    return FindCopies(places.out, folder, rules, *how)


def rewrite_shards(pipeline: beam.Pipeline, copies: Copies, folder: str, places: Places) -> None:
    """Takes out of shards what leaves them, and adds what joins; done again it does the rest."""
    scratch = places.work.path if is_local(places.work.path) else None

    def rewrite(shard: int) -> WrittenShard:
        changes = read_changes(folder, shard)
        with places.fence.publishing(ShardPlaces(places.out).stats(shard)):
            stats = Rewriting(places.out, changes, scratch, forget=False).shard(shard)
        return WrittenShard(stats.number, stats.successes, stats.sha256)

    new_shards = (
        pipeline
        | "Changing" >> beam.Create(copies.shards)
        | "SpreadChanging" >> beam.Reshuffle()
        | "Rewrite" >> beam.Map(rewrite)
    )
    pipeline | "Rewritten" >> WriteSummary(
        places.work.rewritten, RewrittenShards, sums={"shards": (new_shards, sorted)}
    )


def rewrite_copies(engine: Engine, copies: Copies, folder: str, places: Places) -> bool:
    """Takes copies out of shards, where that is not done; returns whether it then is.

    Args:
      folder: in which it is written down what changes.
    """
    work = places.work
    if not exists(work.copy_pictures):
        write_document(work.copy_pictures, look_at_copies(places.out, copies))
    if work.find_rewritten(copies) is None:
        say(f"rewriting {counted(len(copies.shards), 'shard')} without copies")
        with engine.pipeline("copies") as pipeline:
            rewrite_shards(pipeline, copies, folder, places)
    return work.find_rewritten(copies) is not None
