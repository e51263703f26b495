"""The closing documents of a dataset from which pairs were taken: counted anew from what it
dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from msgspec import UNSET, UnsetType

from alignset.pipeline.datasets.copy_groups import forget_contents
from alignset.pipeline.datasets.find_listed import in_order
from alignset.pipeline.datasets.funnel import (
    check_funnel,
    counts_of,
    failed_fetches,
    funnel,
    most_first,
    whole_funnel,
)
from alignset.pipeline.documents.closing import renumber, with_shards, write_closing
from alignset.pipeline.runs.documents import Funnel, Manifest, OptOuts, Step, Takedown
from alignset.pipeline.runs.work_folder import TakedownPlan, WrittenShard
from alignset.transforms.columns.hashing import string_hashes
from alignset.transforms.duplicates.judge_contents import count_shared
from alignset.transforms.rules.catalogue import TAKEDOWN_STEPS, Catalogue
from alignset.transforms.rules.given import FETCH_FAILED, OPTED_OUT, TAKEN_DOWN
from alignset.transforms.shards.failed_fetches import MOST_HOSTS, failures_by_host
from alignset.transforms.shards.listed_pairs import Removal, contents
from alignset.transforms.shards.shard_places import ShardPlaces
from alignset.transforms.shards.shard_stats import FailingHost, ShardStats, SharedContents
from alignset.transforms.storage.documents import read_document
from alignset.transforms.storage.files import match
from alignset.transforms.storage.parquet_files import batches_of, read_rows
from alignset.transforms.workers.counts import Counts, add_by_name


@dataclass
class Recount:
    """Contents of the files of `rejected/`: rows by reason and detail, of each stage."""

    texts: Counter[str] = field(default_factory=Counter)
    images: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)  # by detail
    opt_outs: Counter[str] = field(default_factory=Counter)  # by detail
    taken_down: int = 0

    @property
    def rows(self) -> int:
        return self.texts.total() + self.images.total() + self.taken_down

    def add(
        self, name: str, reasons: Counter[str], failures: Counter[str], opt_outs: Counter[str]
    ) -> None:
        self.taken_down += reasons.pop(TAKEN_DOWN, 0)
        (self.texts if name.startswith("text-") else self.images).update(reasons)
        self.failures.update(failures)
        self.opt_outs.update(opt_outs)


def _count(path: str) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """How many rows of a file have each reason, and how many failed fetches and how many opt-outs
    each detail."""
    reasons, failures, opt_outs = Counter[str](), Counter[str](), Counter[str]()
    for batch in batches_of(path, ["reason", "detail"]):
        reasons.update(_values(batch["reason"]))
        for reason, details in ((FETCH_FAILED, failures), (OPTED_OUT, opt_outs)):
            rows = batch.filter(pc.equal(batch["reason"], reason))
            details.update(_values(rows["detail"]))
    return reasons, failures, opt_outs


def _values(column: pa.StringArray) -> dict[str, int]:
    return {item["values"]: item["counts"] for item in pc.value_counts(column).to_pylist()}


def recount(out: str) -> Recount:
    """Counts the rows of `rejected/`."""
    paths = [path for path, _ in match(f"{out}/rejected")]
    total = Recount()
    for path, counts in zip(paths, in_order(_count, paths), strict=True):
        total.add(Path(path).name, *counts)
    return total


def close_takedown(
    out: str, work: str, plan: TakedownPlan, removal: Removal, shards: list[WrittenShard]
) -> int:
    """Writes the closing documents, the manifest last; returns how many pairs that were dropped
    before may not be read again since.

    Args:
      shards: all of the dataset, as they are now.

    Raises:
      RuntimeError: the counts do not add up.
    """
    base, new_counts = plan.manifest, recount(out)
    earlier = base.takedowns or []
    of_before = counts_of(plan.funnel.steps, TAKEDOWN_STEPS).dropped.get(TAKEN_DOWN, 0)
    pairs = base.pairs - plan.pairs
    is_whole = new_counts.rows == plan.funnel.steps[0].seen - pairs
    if not is_whole:  # the dataset was downloaded without rejected/, or without some files of it
        new_counts = _counts_before(plan, base.catalogue)
    rejected_rows = new_counts.taken_down - of_before - plan.pairs
    forget_contents(out, set(removal.rows["content"].to_pylist()))
    entry = Takedown(plan.day, plan.lists, plan.pairs, rejected_rows, plan.forget, plan.reason)
    steps = _steps(plan.funnel, new_counts, base.catalogue)
    check_funnel(steps, pairs)
    manifest = replace(
        with_shards(base, renumber(out, work, shards)), pairs=pairs, takedowns=[*earlier, entry]
    )
    closing = replace(
        plan.funnel,
        pairs=pairs,
        steps=steps,
        copies=_copies(out, plan.funnel, manifest, removal),
        opted_out=_opted_out(out, plan.funnel, manifest, new_counts),
    )
    if is_whole and new_counts.failures.total() != plan.funnel.fetch.failed:
        statuses = {f"{FETCH_FAILED}: {detail}": n for detail, n in new_counts.failures.items()}
        hosts = _hosts(out, manifest)
        closing = replace(closing, fetch=failed_fetches(plan.funnel.fetch.tried, statuses, hosts))
    write_closing(out, manifest, closing)
    return rejected_rows


def _counts_before(plan: TakedownPlan, catalogue: Catalogue) -> Recount:
    """Counts of the funnel before a takedown, and of the pairs that it took out of the shards."""
    texts, images, taken_down = (
        counts_of(plan.funnel.steps, steps).dropped
        for steps in (catalogue.text_steps, catalogue.image_steps, TAKEDOWN_STEPS)
    )
    total = taken_down.get(TAKEN_DOWN, 0) + plan.pairs
    stated = plan.funnel.opted_out
    opt_outs: Counter[str] = Counter()
    if isinstance(stated, OptOuts) and stated.opt_outs == "reject":
        opt_outs.update(stated.details)
    return Recount(Counter(texts), Counter(images), opt_outs=opt_outs, taken_down=total)


def _steps(before: Funnel, new_counts: Recount, catalogue: Catalogue) -> list[Step]:
    """The funnel with what was taken out as its last step."""
    texts = Counts(before.steps[0].seen, 0, dict(new_counts.texts))
    of_texts = catalogue.text_steps
    if any(step.step not in (*of_texts, *TAKEDOWN_STEPS) for step in before.steps):
        images = Counts(dropped=dict(new_counts.images))
        return whole_funnel(texts, images, new_counts.taken_down, catalogue)
    table = funnel(texts, of_texts)
    removal = Counts(table[-1].kept, 0, {TAKEN_DOWN: new_counts.taken_down})
    return table + funnel(removal, TAKEDOWN_STEPS)


def _copies(
    out: str, before: Funnel, manifest: Manifest, removal: Removal
) -> SharedContents | UnsetType:
    """The count without the images that are gone: only theirs and those like them are looked at."""
    if isinstance(before.copies, UnsetType):
        return UNSET
    removed_rows, places = removal.rows, ShardPlaces(out)
    like = pa.array(removed_rows["content"].unique())

    def left_in(shard: int) -> pa.Table:
        rows = read_rows(places.sidecar(shard), ["sha256", "url"]).combine_chunks()
        there = {"content": contents(rows["sha256"]), "url": string_hashes(rows["url"].chunk(0))}
        return pa.table(there).filter(pc.is_in(pa.array(there["content"]), value_set=like))

    images = removed_rows.select(["content", "url"])
    rest = pa.concat_tables([images.slice(0, 0), *in_order(left_in, manifest.holding)])
    both = pa.concat_tables([rest, images])
    was, is_now = (
        count_shared(*(table[name].to_numpy() for name in ("content", "url")))
        for table in (both, rest)
    )
    return SharedContents(
        before.copies.images - was.images + is_now.images,
        before.copies.contents - was.contents + is_now.contents,
    )


def _opted_out(
    out: str, before: Funnel, manifest: Manifest, new_counts: Recount
) -> OptOuts | UnsetType:
    """The opt-outs without pairs that are taken down since."""
    if isinstance(before.opted_out, UnsetType):
        return UNSET
    details = new_counts.opt_outs
    if before.opted_out.opt_outs != "reject":
        places = ShardPlaces(out)

        def stated(shard: int) -> dict[str, int]:
            return read_document(places.stats(shard), ShardStats).opted_out or {}

        details += Counter(add_by_name(in_order(stated, manifest.numbers)))
    return replace(before.opted_out, details=most_first(details)) if details else UNSET


def _hosts(out: str, manifest: Manifest) -> list[FailingHost]:
    """The hosts with the most failures."""
    places = ShardPlaces(out)

    def failures(shard: int) -> dict[str, dict[str, int]]:
        columns = ["url", "reason", "detail"]
        batches = list(batches_of(places.rejected(shard), columns))
        return failures_by_host(pa.Table.from_batches(batches)) if batches else {}

    return most_failing(in_order(failures, manifest.numbers))


def most_failing(parts: Iterable[dict[str, dict[str, int]]]) -> list[FailingHost]:
    """The hosts with the most failures, of counts by host and detail."""
    hosts: dict[str, list[dict[str, int]]] = {}
    for part in parts:
        for host, details in part.items():
            hosts.setdefault(host, []).append(details)
    all_hosts: Sequence[FailingHost] = [
        FailingHost(total := add_by_name(details), sum(total.values()), host)
        for host, details in hosts.items()
    ]
    return sorted(all_hosts, key=lambda host: (-host.failed, host.host))[:MOST_HOSTS]
