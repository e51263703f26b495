"""Pairs taken out of the files of a dataset, as `leaving/` names them, and the end of a command on
a finished dataset.

A run, its best share, `deduplicate` and a takedown write down what leaves before the first file
changes. The rest is the same: files are rewritten, and then the documents.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow.compute as pc

from alignset.pipeline.datasets.numbers import in_threads
from alignset.pipeline.datasets.set_files import rename_answers
from alignset.pipeline.documents.describe import describe, drop_records
from alignset.pipeline.inputs.earlier_sets import TAKEN_DOWN_KEYS, read_taken_down
from alignset.pipeline.progress import say
from alignset.pipeline.report.page import REPORT
from alignset.pipeline.runs.engine import Engine, everywhere
from alignset.pipeline.runs.run_lock import Lock, take_lock
from alignset.pipeline.runs.work_folder import Change, WorkFolder
from alignset.pipeline.shown_texts import counted
from alignset.transforms.rules.given import TAKEN_DOWN
from alignset.transforms.shards.leaving_pairs import leaving_files, read_leaving, shard_of
from alignset.transforms.shards.renumber_shards import renumber_shards
from alignset.transforms.shards.rewrite_shards import rewrite_shard, rewrite_texts
from alignset.transforms.storage.documents import write_document
from alignset.transforms.storage.files import exists, remove, write_atomically
from alignset.transforms.workers.summaries import WriteSummary


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
        write_document(work.rewritten, {"files": sum(in_threads(one, names))})
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

    def finish(self, change: Change, engine: Engine | None = None, *, forget: bool = False) -> None:
        """Takes out what leaves, and writes the documents; before the first file changes, the
        change is written down."""
        out, work = self.out, self.work
        self.lock.check()
        if self.change is None:
            write_document(work.change, change)
        rename_answers(out)
        rewrite(everywhere(out), work, engine, forget=forget)
        self.lock.check()
        self._tell_indexes()
        if exists(f"{out}/manifest.json"):
            renumber_shards(out, work.path)
            describe(out, change.manifest)
        else:  # of the steps, which write no documents; what is there shows what leaves
            remove(f"{out}/{REPORT}")
            drop_records(out)
        remove(work.change)

    def _tell_indexes(self) -> None:
        """Adds the keys of what is taken down to those that an index of the dataset, and a dataset
        that is made of it, must leave out: ascending, uint64. Pairs that were dropped before and
        are listed are among them, or the next crawl would bring them."""
        path, folder = f"{self.out}/{TAKEN_DOWN_KEYS}", self.work.leaving
        files = [name for name in leaving_files(folder) if name.startswith("rejected/")]
        rows = [read_leaving(folder, name).rows for name in files]
        keys = [
            table.filter(pc.equal(table["reason"], TAKEN_DOWN))["key"].to_numpy() for table in rows
        ]
        if any(map(len, keys)):
            keys += [read_taken_down(path)] if exists(path) else []
            body = np.unique(np.concatenate(keys)).astype("<u8").tobytes()
            write_atomically(path, lambda sink: sink.write(body))


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
