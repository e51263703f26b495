"""A takedown: what is on the lists is found, written down, taken out file by file, and told of.

It holds the output as a run does. Before the first file changes, its plan is in `_temporary/`.
Killed anywhere after that, the same command resumes from there. The manifest is written last.
"""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec import UNSET, UnsetType

from alignset.pipeline.datasets.find_listed import (
    Listed,
    Outcome,
    are_most,
    find_listed,
    in_order,
    outcome_of,
    plan_of,
    rejected_of_texts,
)
from alignset.pipeline.datasets.set_files import rename_answers
from alignset.pipeline.datasets.steps_set import read_any_set
from alignset.pipeline.documents.closing import written_of
from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.earlier_sets import TAKEN_DOWN_KEYS, read_taken_down
from alignset.pipeline.removal_reasons import OPT_OUT
from alignset.pipeline.report.page import REPORT
from alignset.pipeline.runs.run_folder import named_lists
from alignset.pipeline.runs.run_lock import Lock, take_lock
from alignset.pipeline.runs.work_folder import (
    RewrittenShards,
    TakedownPlan,
    WorkFolder,
    WrittenShard,
    clean_work,
)
from alignset.pipeline.shown_texts import counted
from alignset.pipeline.takedown.closing import close_takedown
from alignset.transforms.blocklists.blocklists import Blocklists
from alignset.transforms.columns.hashing import UInt64s
from alignset.transforms.rules.given import TAKEN_DOWN
from alignset.transforms.shards.listed_pairs import Removal, keys_of
from alignset.transforms.shards.renumber_shards import forget_renumbering
from alignset.transforms.shards.rewrite_shards import Rewriting
from alignset.transforms.storage.documents import find_document, write_document
from alignset.transforms.storage.files import (
    exists,
    is_local,
    match,
    open_to_read,
    remove,
    write_atomically,
)
from alignset.transforms.storage.parquet_files import batches_of


def take_down(
    out: str, lists: Blocklists, *, forget: bool, reason: str = OPT_OUT, sure: bool = False
) -> Outcome:
    """Takes what is on the lists out of a finished dataset.

    Args:
      out: its folder. forget: whether rows of `rejected/` then hold neither URL nor text of it.
      reason: one of REMOVAL_REASONS. sure: whether more than half of the pairs may go.

    Raises:
      UsageError: there is no such dataset, something else is under way in it, or nearly all would
        go.
    """
    read_any_set(out)
    work = WorkFolder(f"{out}/_temporary")
    lock = take_lock(work.path)
    try:
        return _Takedown(out, work, lists, lock, reason).finish(forget=forget, sure=sure)
    finally:
        lock.release()
        with suppress(OSError):
            os.rmdir(work.path)


class _Takedown:
    def __init__(
        self,
        out: str,
        work: WorkFolder,
        lists: Blocklists,
        lock: Lock,
        reason: str,
    ) -> None:
        self.out, self.work, self.lists, self.lock = out, work, lists, lock
        self.reason: str | UnsetType = UNSET if reason == OPT_OUT else reason

    def finish(self, *, forget: bool, sure: bool) -> Outcome:
        self.work.refuse_stopped(self.out, but="takedown")
        plan = find_document(self.work.takedown, TakedownPlan)
        if plan is None:
            manifest = read_any_set(self.out)[0]
            matches = find_listed(self.out, manifest, self.lists, history=forget)
            if not sure and are_most(matches, manifest):
                clean_work(self.out, self.work.path)
                raise UsageError(
                    f"{len(matches.rows):,} of {counted(manifest.pairs, 'pair')} are on the list, "
                    "more than half: --dry_run counts them by entry, and --yes takes them out; "
                    "nothing was changed"
                )
            plan = self._plan(matches, forget=forget)
            if plan is None:
                clean_work(self.out, self.work.path)
                return outcome_of(matches, manifest, [])
        self._check_same(plan, forget=forget)
        with open_to_read(self.work.takedown_pairs) as source:
            removal = Removal(pq.read_table(source), self.lists, forget)
        rename_answers(self.out)
        rewritten = find_document(self.work.takedown_shards, RewrittenShards)
        if rewritten is None:
            rewritten = self._rewrite(plan, Rewriting(self.out, removal, self._scratch, forget))
        self.lock.check()
        self._tell_indexes(removal)
        for path, _ in match(f"{self.out}/report"):
            remove(path)  # of a version before 0.3, which shows what leaves
        if not plan.funnel.steps:
            remove(f"{self.out}/{REPORT}")  # which shows images of what leaves
            rejected_rows = plan.dropped
        else:
            how = self.work.path, plan, removal, rewritten.shards
            rejected_rows = close_takedown(self.out, *how)
            rejected_rows = plan.dropped if forget else rejected_rows  # some were taken before
        clean_work(self.out, self.work.path)
        before, of = plan.manifest.pairs_of_shards, len(plan.manifest.holding)
        shard_count = sum(shard.kept < before.get(shard.number, 0) for shard in rewritten.shards)
        details = Listed(removal.rows).details
        return Outcome(details, plan.pairs, rejected_rows, shard_count, of, len(plan.files))

    @property
    def _scratch(self) -> str | None:
        return self.work.path if is_local(self.out) else None

    def _plan(self, matches: Listed, *, forget: bool) -> TakedownPlan | None:
        """The plan, written down; None where nothing is to be done."""
        shards, files = plan_of(self.out, matches)
        if not shards and not files:
            return None
        manifest, funnel = read_any_set(self.out)
        lists = named_lists(self.lists)
        assert not isinstance(lists, UnsetType)
        day = datetime.now(UTC).date().isoformat()
        pairs = len(matches.rows)
        dropped = sum(matches.rejected_rows.values())
        plan = TakedownPlan(
            *(day, lists, forget, pairs, shards, files, dropped, manifest, funnel, self.reason)
        )
        # Of a command that was killed at its end.
        forget_renumbering(self.work.path)
        remove(self.work.takedown_shards)
        write_atomically(self.work.takedown_pairs, lambda sink: pq.write_table(matches.rows, sink))
        self.lock.check()
        write_document(self.work.takedown, plan)
        return plan

    def _check_same(self, plan: TakedownPlan, *, forget: bool) -> None:
        same = (plan.forget, plan.reason) == (forget, self.reason)
        if plan.lists != named_lists(self.lists) or not same:
            names = ", ".join(entry.name for entry in plan.lists)
            flag = " --forget_blocked" if plan.forget else ""
            flag += f" --reason={plan.reason}" if plan.reason else ""
            raise UsageError(
                f"a takedown of {self.out} with {names}{flag} was stopped; run just that again, "
                "which resumes it"
            )

    def _rewrite(self, plan: TakedownPlan, rewriting: Rewriting) -> RewrittenShards:
        def shard(number: int) -> WrittenShard:
            self.lock.check()
            stats = rewriting.shard(number)
            return WrittenShard(number, stats.successes, stats.sha256)

        def file(name: str) -> None:
            self.lock.check()
            path = f"{self.out}/{name}"
            if name.startswith("pairs/"):
                rewriting.texts(path, rejected_of_texts(self.out, path))
            else:
                rewriting.dropped_file(path)

        anew = {entry.number: entry for entry in in_order(shard, plan.shards)}
        list(in_order(file, plan.files))
        shards = [anew.get(of.number, of) for of in written_of(plan.manifest)]
        rewritten = RewrittenShards(shards)
        write_document(self.work.takedown_shards, rewritten)
        return rewritten

    def _tell_indexes(self, removal: Removal) -> None:
        """Adds the keys to those that an index of the dataset, and a dataset that is made of it,
        must leave out: ascending, uint64. Pairs that were dropped before and are listed are among
        them, or the next crawl would bring them."""
        path = f"{self.out}/{TAKEN_DOWN_KEYS}"
        before = read_taken_down(path) if exists(path) else np.zeros(0, np.uint64)
        dropped = in_order(_keys_of_taken, [path for path, _ in match(f"{self.out}/rejected")])
        keys = np.concatenate([before, removal.rows["key"].to_numpy(), *dropped])
        body = np.unique(keys).astype("<u8").tobytes()
        write_atomically(path, lambda sink: sink.write(body))


def _keys_of_taken(path: str) -> UInt64s:
    """The keys of the rows of a file of `rejected/` that are taken down: uint64[n]."""
    batches = batches_of(path, ["key", "reason"])
    rows = [batch.filter(pc.equal(batch["reason"], TAKEN_DOWN))["key"] for batch in batches]
    return np.concatenate([np.zeros(0, np.uint64), *map(keys_of, rows)])
