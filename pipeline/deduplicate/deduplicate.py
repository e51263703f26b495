"""A deduplication: copies are found, written down, taken out shard by shard, and told of.

It holds the output as a run does. Killed anywhere after it wrote down what leaves, the same command
resumes from there. The manifest is written last.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from datetime import UTC, datetime

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from msgspec import UNSET

from alignset.pipeline.copies import describing_cost, find_copies
from alignset.pipeline.curate import Places
from alignset.pipeline.datasets.numbers import in_threads
from alignset.pipeline.datasets.set_files import find_own_set, no_set, read_set
from alignset.pipeline.errors import UsageError
from alignset.pipeline.progress import say
from alignset.pipeline.rewrite import held_set
from alignset.pipeline.runs.documents import Deduplication, Manifest
from alignset.pipeline.runs.engine import Engine, everywhere
from alignset.pipeline.runs.work_folder import Change, WorkFolder
from alignset.transforms.duplicates.contents import CopyRules
from alignset.transforms.rules.popularity import MAX_TEXTS_PER_IMAGE
from alignset.transforms.shards.descriptors import has_looks
from alignset.transforms.shards.leaving_pairs import leaving_files
from alignset.transforms.shards.shard_places import HOLDOUT, ShardPlaces
from alignset.transforms.shards.shard_stats import Copies, NearDuplicates, add_copies
from alignset.transforms.storage.blocks import Blocks
from alignset.transforms.storage.documents import read_document
from alignset.transforms.storage.files import exists, match
from alignset.transforms.storage.parquet_files import schema_of
from alignset.transforms.workers.summaries import WriteSummary
from alignset.transforms.workers.threads import stop_work


def deduplicate(out: str, *, near: bool = False, dry: bool = False) -> tuple[dict[str, int], int]:
    """Keeps each image of a finished dataset once; returns how many pairs left for each reason, and
    how many shards these leave.

    Args:
      out: its folder. near: also one of photographs that look alike.
      dry: only find what would leave.

    Raises:
      UsageError: there is no such dataset, or something else is under way in it.
    """
    if not exists(f"{out}/manifest.json") and find_own_set(out) is None:
        raise no_set(out)
    if read_set(out)[0].job["text_only"]:
        raise UsageError(f"{out} has no images: --text_only fetched none")
    aside, words = tempfile.mkdtemp(prefix="alignset-"), ["--near"] if near else []
    try:
        with held_set(out, "deduplicate", words) as held:
            change = held.change
            if dry and change:
                raise UsageError(f"a deduplicate of {out} was stopped; run it without --dry_run")
            work = WorkFolder(aside) if dry else held.work
            places = Places(everywhere(out), work, Blocks(aside))
            engine = Engine(PipelineOptions([]), "deduplicate")
            if change is None:
                manifest, _ = read_set(out)
                copies = _find(manifest, places, engine, near=near)
                day = datetime.now(UTC).date().isoformat()
                entry = Deduplication(day, copies.dropped, near=near or UNSET)
                manifest = replace(
                    manifest,
                    deduplications=[*(manifest.deduplications or []), entry],
                    near_duplicates=NearDuplicates(copies.graphics, distances=copies.distances)
                    if copies.distances
                    else UNSET,
                )
                change = Change("deduplicate", words, manifest)
            shards = len(leaving_files(work.leaving))
            if shards and not dry:
                held.finish(change, engine)
            return (change.manifest.deduplications or [])[-1].dropped, shards
    finally:
        stop_work()
        shutil.rmtree(aside, ignore_errors=True)


def _find(manifest: Manifest, places: Places, engine: Engine, *, near: bool) -> Copies:
    """Writes down what leaves.

    Raises:
      UsageError: the dataset lacks a shard.
      BrokenInputError: a file of `rejected/` is damaged.
    """
    shards = ShardPlaces(places.out)
    paths = {path for folder in shards.folders for path, _ in match(folder)}
    for shard in manifest.holding:
        for path in (shards.sidecar(shard), shards.tar(shard)):
            if path not in paths:
                raise UsageError(f"{path} is missing: bring it back; nothing was changed")
    # One that is cut would stop the rewriting half-way, or the counting behind it.
    list(in_threads(schema_of, [path for path, _ in match(f"{places.out}/rejected")]))
    max_texts = int(manifest.rules.get(MAX_TEXTS_PER_IMAGE.name, MAX_TEXTS_PER_IMAGE.default))
    descriptors = ""
    if any(entry.pairs for entry in manifest.held_out.values()):
        descriptors = f"{places.work.path}/descriptors"  # nobody has written any
        say(describing_cost(manifest.pairs))
    training = min(manifest.holding, default=HOLDOUT)
    if near and training < HOLDOUT and not has_looks(shards.sidecar(training)):
        say(describing_cost(manifest.pairs, near=True))
    rules = CopyRules(max_texts, once=True, near=near)
    find = find_copies(rules, places, manifest.pairs, descriptors)
    with engine.pipeline("deduplicate") as pipeline:
        per_shard = pipeline | beam.Create(manifest.holding) | beam.Reshuffle() | find
        sums = {"copies": (per_shard, add_copies)}
        pipeline | WriteSummary(places.work.found_copies, lambda copies: copies, sums=sums)
    return read_document(places.work.found_copies, Copies)
