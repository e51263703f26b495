"""A deduplication: copies are found, written down, taken out shard by shard, and told of.

It holds the output as a run does. Before the first file changes, its plan is in `_temporary/`.
Killed anywhere after that, the same command resumes from there. The manifest is written last.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from msgspec import UNSET, UnsetType

from alignset.pipeline.copies import describing_cost, find_copies, rewrite_copies
from alignset.pipeline.curate import Places
from alignset.pipeline.datasets.copy_groups import publish_copies
from alignset.pipeline.datasets.funnel import check_funnel, most_first, with_images
from alignset.pipeline.datasets.set_files import find_own_set, no_set, read_set
from alignset.pipeline.documents.closing import renumber, with_shards, write_closing, written_of
from alignset.pipeline.errors import UsageError
from alignset.pipeline.progress import say
from alignset.pipeline.runs.documents import Deduplication, Funnel, Manifest, OptOuts
from alignset.pipeline.runs.engine import Engine, everywhere
from alignset.pipeline.runs.run_lock import Lock, take_lock
from alignset.pipeline.runs.work_folder import (
    DeduplicationPlan,
    FoundCopies,
    WorkFolder,
    clean_work,
    with_rewritten,
)
from alignset.transforms.duplicates.contents import CopyRules
from alignset.transforms.rules.popularity import MAX_TEXTS_PER_IMAGE
from alignset.transforms.shards.descriptors import has_looks
from alignset.transforms.shards.renumber_shards import forget_renumbering
from alignset.transforms.shards.shard_places import HOLDOUT, ShardPlaces
from alignset.transforms.shards.shard_stats import Copies, add_copies
from alignset.transforms.storage.blocks import Blocks
from alignset.transforms.storage.documents import find_document, read_document, write_document
from alignset.transforms.storage.files import exists, match, remove
from alignset.transforms.workers.counts import Counts, add_by_name
from alignset.transforms.workers.fencing import Fence
from alignset.transforms.workers.summaries import WriteSummary
from alignset.transforms.workers.threads import stop_work


def deduplicate(out: str, *, near: bool = False, dry: bool = False) -> Copies:
    """Keeps each image of a finished dataset once.

    Args:
      out: its folder. near: also one of photographs that look alike.
      dry: only find what would leave.

    Raises:
      UsageError: there is no such dataset, or something else is under way in it.
    """
    if not exists(f"{out}/manifest.json") and find_own_set(out) is None:
        raise no_set(out)
    _check(out, read_set(out)[0])
    work = WorkFolder(everywhere(f"{out}/_temporary"))
    lock = take_lock(work.path)
    aside = tempfile.mkdtemp(prefix="alignset-")
    try:
        work.refuse_stopped(out, but="deduplicate")
        if dry and exists(work.deduplication):
            raise UsageError(f"a deduplicate of {out} was stopped; run it without --dry_run")
        deduplication = _Deduplication(out, WorkFolder(aside) if dry else work, lock, aside)
        return deduplication.finish(near=near, dry=dry)
    finally:
        stop_work()
        shutil.rmtree(aside, ignore_errors=True)
        if dry and not exists(work.deduplication):
            clean_work(out, work.path)
        lock.release()


def _check(out: str, manifest: Manifest) -> None:
    """Raises UsageError where a dataset has no images, or lacks a shard."""
    if manifest.job["text_only"]:
        raise UsageError(f"{out} has no images: --text_only fetched none")
    places = ShardPlaces(out)
    there = {path for folder in places.folders for path, _ in match(folder)}
    for shard in manifest.holding:
        for path in (places.sidecar(shard), places.tar(shard)):
            if path not in there and not exists(f"{out}/_temporary/deduplicate.json"):
                raise UsageError(f"{path} is missing: bring it back; nothing was changed")


class _Deduplication:
    """One that is not finished, of an output that is held."""

    def __init__(self, out: str, work: WorkFolder, lock: Lock, aside: str) -> None:
        self.out, self.work, self.lock = out, work, lock
        fence = Fence(work.start, uuid.uuid4().hex[:12])
        Path(aside, "blocks").mkdir()
        self.places = Places(everywhere(out), work, Blocks(f"{aside}/blocks"), fence)
        self.engine = Engine(PipelineOptions([]), fence.token)

    def finish(self, *, near: bool, dry: bool) -> Copies:
        self.places.fence.take()
        plan = find_document(self.work.deduplication, DeduplicationPlan)
        if plan is None:
            plan = self._plan(near=near)
        if dry or not plan.copies.shards:
            if not dry:
                clean_work(self.out, self.work.path)
            return plan.copies
        self.lock.check()
        write_document(self.work.deduplication, plan)
        # By its name alone: in a dataset of somebody else the path may lead anywhere.
        folder = f"{self.work.path}/{Path(plan.folder).name}"
        rewrite_copies(self.engine, plan.copies, folder, self.places)
        self.lock.check()
        _close(self.out, self.work, plan)
        clean_work(self.out, self.work.path)
        return plan.copies

    def _plan(self, *, near: bool) -> DeduplicationPlan:
        manifest, funnel = read_set(self.out)
        most = int(manifest.rules.get(MAX_TEXTS_PER_IMAGE.name, MAX_TEXTS_PER_IMAGE.default))
        descriptors = ""
        if any(entry.pairs for entry in manifest.held_out.values()):
            descriptors = f"{self.work.path}/descriptors"  # nobody has written any
            say(describing_cost(manifest.pairs))
        training = min(manifest.holding, default=HOLDOUT)
        if near and training < HOLDOUT and not has_looks(ShardPlaces(self.out).sidecar(training)):
            say(describing_cost(manifest.pairs, near=True))
        rules = CopyRules(most, once=True, near=near)
        find = find_copies(rules, self.places, manifest.pairs, descriptors)
        with self.engine.pipeline("deduplicate") as pipeline:
            per_shard = pipeline | beam.Create(manifest.holding) | beam.Reshuffle() | find
            sums = {"copies": (per_shard, add_copies)}
            pipeline | WriteSummary(self.work.found_copies, FoundCopies, sums=sums)
        copies = read_document(self.work.found_copies, FoundCopies).copies
        # Of a command that was killed at its end.
        forget_renumbering(self.work.path)
        remove(self.work.rewritten)
        remove(self.work.copy_pictures)
        day = datetime.now(UTC).date().isoformat()
        return DeduplicationPlan(day, find.folder, copies, manifest, funnel, near)


def _close(out: str, work: WorkFolder, plan: DeduplicationPlan) -> None:
    """Writes the closing documents, the manifest last."""
    base, copies = plan.manifest, plan.copies
    rewritten = work.find_rewritten(copies)
    assert rewritten is not None, "copies are taken out"
    pairs = base.pairs - sum(copies.dropped.values())

    def without_copies(images: Counts) -> Counts:
        return replace(images, dropped=add_by_name([images.dropped, copies.dropped]))

    steps = with_images(plan.funnel.steps, without_copies, base.catalogue)
    check_funnel(steps, pairs)
    shards = with_rewritten(written_of(base), rewritten)
    near = plan.near or UNSET
    entry = Deduplication(plan.day, copies.dropped, copies.moved, near)
    manifest = replace(
        with_shards(base, renumber(out, work.path, shards)),
        pairs=pairs,
        deduplications=[*(base.deduplications or []), entry],
    )
    closing = replace(
        plan.funnel,
        pairs=pairs,
        steps=steps,
        copies=copies.shared,
        near_duplicates=publish_copies(out, work),
        opted_out=_opted_out(plan.funnel, copies),
    )
    write_closing(out, manifest, closing)


def _opted_out(before: Funnel, copies: Copies) -> OptOuts | UnsetType:
    """The opt-outs that are only reported, without pairs that left."""
    if isinstance(before.opted_out, UnsetType):
        return UNSET
    rest = Counter(before.opted_out.details)
    rest.subtract(copies.reported)
    return replace(before.opted_out, details=most_first(+rest)) if +rest else UNSET
