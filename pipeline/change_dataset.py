"""Changes of a finished dataset: pairs taken out of its files, and the documents written anew.

1. The pairs that leave are found, and written down in `leaving/`.
2. `change.json` is written, and no other command may change the dataset now.
3. `rewrite` rewrites the files that change, one by one. Done again after a kill, it does the rest.
4. The documents are written, the manifest last.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow.compute as pc
from apache_beam.options.pipeline_options import PipelineOptions
from msgspec import UNSET, UnsetType

from alignset.pipeline.command_line import OPT_OUT
from alignset.pipeline.curate import Places
from alignset.pipeline.datasets.find_listed import Listed, find_listed
from alignset.pipeline.datasets.set_files import find_own_set, no_set, read_any_set, read_set
from alignset.pipeline.documents.describe import describe, drop_records
from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.earlier_sets import TAKEN_DOWN_KEYS, read_taken_down
from alignset.pipeline.leaving import describing_cost, find_copies
from alignset.pipeline.progress import say
from alignset.pipeline.report.page import REPORT
from alignset.pipeline.runs.documents import Deduplication, Evidence, Manifest, Takedown
from alignset.pipeline.runs.engine import Engine, everywhere
from alignset.pipeline.runs.run_folder import named_lists
from alignset.pipeline.runs.run_lock import Lock, take_lock
from alignset.pipeline.runs.work_folder import RECHECKED, Change, WorkFolder
from alignset.pipeline.settings import Settings
from alignset.pipeline.shown_texts import counted
from alignset.transforms.arrivals.host_files import forget_host_files
from alignset.transforms.arrivals.image_looks import has_looks
from alignset.transforms.blocklists.blocklists import Blocklists
from alignset.transforms.columns.hashing import UInt64s
from alignset.transforms.columns.pair_columns import EVIDENCE_FOLDER
from alignset.transforms.rules.given import TAKEN_DOWN
from alignset.transforms.rules.thresholds import MAX_TEXTS_PER_IMAGE
from alignset.transforms.shards.leaving_pairs import (
    leaving_files,
    read_leaving,
    shard_of,
    write_leaving,
)
from alignset.transforms.shards.renumber_shards import renumber_shards
from alignset.transforms.shards.rewrite_shards import rewrite_shard, rewrite_texts
from alignset.transforms.shards.shard_places import HOLDOUT, ShardPlaces
from alignset.transforms.shards.shard_stats import Copies, NearDuplicates, add_copies
from alignset.transforms.storage.blocks import Blocks
from alignset.transforms.storage.documents import read_document, write_document
from alignset.transforms.storage.files import exists, match, remove, write_atomically
from alignset.transforms.storage.parquet_files import schema_of
from alignset.transforms.workers.stages import WriteSummary
from alignset.transforms.workers.threads import map_in_threads, stop_work


def rewrite(
    out: str, work: WorkFolder, engine: Engine | None = None, *, forget: bool = False
) -> bool:
    """Takes out what `leaving/` names, where that is not done; returns whether it then is. Done
    again after a kill, it does the rest.

    Args:
      engine: the run's; None for threads of this process.
      forget: whether rows of what is taken down hold neither URL nor text any more.
    """
    names = leaving_files(work.leaving)
    if not names or exists(work.rewritten):
        return True

    def one(name: str) -> int:
        shard = shard_of(name)
        if shard is None:
            pairs, leaving = name.removeprefix("rejected/text-"), read_leaving(work.leaving, name)
            rewrite_texts(
                f"{out}/pairs/{pairs}", f"{out}/{name}", leaving, work.scratch, forget=forget
            )
        else:
            rewrite_shard(out, shard, work.leaving, work.scratch, forget=forget)
        return 1

    if engine is None:
        write_document(work.rewritten, {"files": sum(map_in_threads(one, names))})
        return True
    say(f"rewriting {counted(len(names), 'shard')} without what leaves")
    with engine.pipeline("rewrite") as pipeline:
        files = pipeline | beam.Create(names) | beam.Reshuffle() | beam.Map(one)
        pipeline | WriteSummary(work.rewritten, dict, sums={"files": (files, sum)})
    return exists(work.rewritten)


@dataclass(frozen=True)
class HeldSet:
    """A finished dataset that no other command may change meanwhile.

    Attributes:
      change: what the same command had written down before it was stopped; None: nothing.
    """

    out: str
    work: WorkFolder
    lock: Lock
    change: Change | None

    def finish(
        self, change: Change, engine: Engine | None = None, forgotten: Blocklists | None = None
    ) -> None:
        """Takes out what leaves, and writes the documents; before the first file changes, the
        change is written down.

        Args:
          forgotten: lists; no file of evidence has anything of their hosts any more, nor rows of
            what is taken down URL or text.
        """
        out, work = self.out, self.work
        self.lock.check()
        if self.change is None:
            write_document(work.change, change)
        rewrite(everywhere(out), work, engine, forget=forgotten is not None)
        self.lock.check()
        keys = self._tell_indexes()
        if forgotten:
            self.forget_host_files(forgotten, keys)
        if exists(f"{out}/manifest.json"):
            renumber_shards(out, work.path)
            describe(out, change.manifest)
        else:  # of the steps, which write no documents; what is there shows what leaves
            remove(f"{out}/{REPORT}")
            drop_records(out)
        remove(work.change)
        remove(f"{out}/{RECHECKED}")  # of the dataset as it was

    def forget_host_files(self, lists: Blocklists, keys: UInt64s) -> None:
        """Takes out of the evidence whatever is of listed hosts, and the headers of some pairs."""
        files = [path for path, _ in match(f"{self.out}/{EVIDENCE_FOLDER}")]
        [*map_in_threads(lambda path: forget_host_files(path, lists, keys), files)]

    def _tell_indexes(self) -> UInt64s:
        """Adds the keys of what is taken down to those that an index of the dataset, and a dataset
        that is made of it, must leave out: ascending, uint64. Pairs that were dropped before and
        are listed are among them, or the next crawl would bring them. Returns the added keys."""
        path, folder = f"{self.out}/{TAKEN_DOWN_KEYS}", self.work.leaving
        files = [name for name in leaving_files(folder) if name.startswith("rejected/")]
        rows = [read_leaving(folder, name).rows for name in files]
        parts = [of.filter(pc.equal(of["reason"], TAKEN_DOWN))["key"].to_numpy() for of in rows]
        keys = np.concatenate([np.zeros(0, np.uint64), *parts])
        if len(keys):
            before = [read_taken_down(path)] if exists(path) else []
            body = np.unique(np.concatenate([keys, *before])).astype("<u8").tobytes()
            write_atomically(path, lambda sink: sink.write(body))
        return keys


@contextmanager
def held_set(out: str, command: str, words: Sequence[str]) -> Iterator[HeldSet]:
    """Holds a finished dataset. Where the block ends before anything is written down, nothing is
    left of the command.

    Args:
      command, words: as in `Change`.

    Raises:
      UsageError: another command holds it, or was stopped.
    """
    work = WorkFolder(everywhere(f"{out}/_temporary"))
    lock, done = take_lock(work.path, uuid.uuid4().hex[:12]), False
    try:
        change = work.find_change(out, command, words)
        if change is None:
            work.clear()
        try:
            yield HeldSet(out, work, lock, change)
        finally:
            if not exists(work.change):
                with suppress(RuntimeError):  # another command has it by now
                    lock.check()
                    work.clean(out)
                    done = True
    finally:
        lock.release(done=done)


def take_down(
    out: str,
    lists: Blocklists,
    *,
    forget: bool,
    reason: str = OPT_OUT,
    sure: bool = False,
    recheck: Sequence[str] = (),
    evidence: list[Evidence] | None = None,
) -> Listed:
    """Takes what is on the lists out of a finished dataset; returns what that was. A command that
    resumes no longer knows by which entries, or of how many shards.

    Args:
      out: its folder. forget: whether rows of `rejected/` then hold neither URL nor text of it.
      reason: one of REMOVAL_REASONS. sure: whether more than half of the pairs may go.
      recheck, evidence: of `alignset recheck`, the flags and the files of hosts.

    Raises:
      UsageError: there is no such dataset, something else is under way in it, or nearly all would
        go.
    """
    read_any_set(out)
    named = named_lists(lists)
    assert not isinstance(named, UnsetType)
    words = [f"--blocklist={','.join(of.name for of in named)}"]
    words += ["--forget_blocked"] if forget else []
    words += [f"--reason={reason}"] if reason != OPT_OUT else []
    command, words = ("recheck", [*recheck]) if recheck else ("takedown", words)
    with held_set(out, command, words) as held:
        if change := held.change:
            done = (change.manifest.takedowns or [])[-1]
            if done.lists != named:
                raise UsageError(
                    f"a takedown of {out} by other entries of {words[0].partition('=')[2]} was "
                    "stopped; resume it with the lists as they were, and then run this"
                )
            listed = Listed({}, done.pairs, 0, done.dropped, done.dropped, {}, 0, most=False)
        else:
            manifest = read_any_set(out)
            listed = find_listed(out, manifest, lists, forget=forget)
            if not listed.leaving:
                if forget:
                    held.forget_host_files(lists, np.zeros(0, np.uint64))
                return listed
            if listed.most and not sure:
                raise UsageError(
                    f"{listed.pairs:,} of {counted(manifest.pairs, 'pair')} are on the list, "
                    "more than half: --dry_run counts them by entry, and --yes takes them out; "
                    "nothing was changed"
                )
            for name, rows in listed.leaving.items():
                write_leaving(held.work.leaving, name, rows)
            day = datetime.now(UTC).date().isoformat()
            why = UNSET if reason == OPT_OUT else reason
            pairs, files = listed.pairs, UNSET if evidence is None else evidence
            done = Takedown(day, named, pairs, listed.newly_taken, forget, why, files)
            manifest = replace(manifest, takedowns=[*(manifest.takedowns or []), done])
            change = Change(command, words, manifest)
        held.finish(change, forgotten=lists if forget else None)
    return listed


def remove_copies(out: str, *, near: bool = False, dry: bool = False) -> tuple[dict[str, int], int]:
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
    list(map_in_threads(schema_of, [path for path, _ in match(f"{places.out}/rejected")]))
    max_texts = int(manifest.rules.get(MAX_TEXTS_PER_IMAGE.name, MAX_TEXTS_PER_IMAGE.default))
    descriptors = ""
    if any(entry.pairs for entry in manifest.held_out.values()):
        descriptors = places.work.descriptors  # nobody has written any
        say(describing_cost(manifest.pairs))
    training = min(manifest.holding, default=HOLDOUT)
    if near and training < HOLDOUT and not has_looks(shards.sidecar(training)):
        say(describing_cost(manifest.pairs, near=True))
    limits: dict[str, Any] = {MAX_TEXTS_PER_IMAGE.name: max_texts}
    duplicates = "near" if near else "exact"
    settings = Settings(input=places.out, output=places.out, duplicates=duplicates, **limits)
    find = find_copies(settings, places, manifest.pairs, descriptors)
    with engine.pipeline("deduplicate") as pipeline:
        per_shard = pipeline | beam.Create(manifest.holding) | beam.Reshuffle() | find
        sums = {"copies": (per_shard, add_copies)}
        pipeline | WriteSummary(places.work.found_copies, lambda copies: copies, sums=sums)
    return read_document(places.work.found_copies, Copies)
