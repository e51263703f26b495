"""`--retry_failed`: what could not be fetched is tried again, and joins the same dataset.

A retry is a run whose pairs are rows of `rejected/`. They are planned as a run plans its own: by
URL, into shards of their own, numbered on from the last. When these are whole, the rows are taken
out of the old shards' `rejected/`. The finished shards stay as they are, byte for byte, but for
copies that leave.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

import apache_beam as beam
from msgspec import UNSET

from alignset.pipeline.curate import Places
from alignset.pipeline.datasets.numbers import count_pairs, in_threads
from alignset.pipeline.datasets.set_files import read_set
from alignset.pipeline.datasets.steps_set import shard_entries
from alignset.pipeline.documents.run_manifest import days_of, near_of
from alignset.pipeline.errors import UsageError
from alignset.pipeline.runs.documents import Manifest, Retry
from alignset.pipeline.runs.engine import is_dry_run
from alignset.pipeline.runs.run_folder import RunFolder
from alignset.pipeline.runs.work_folder import Change, ImageSummary, TextSummary
from alignset.pipeline.settings import Settings
from alignset.transforms.fetching.fetch_settings import GONE
from alignset.transforms.rules.given import FETCH_FAILED
from alignset.transforms.shards.failed_fetches import forget_failed, read_failed
from alignset.transforms.shards.plan_shards import PlanShards
from alignset.transforms.shards.shard_places import HOLDOUT, ShardPlaces, shard_name
from alignset.transforms.storage.blocks import BUCKET, Bucket, unpack
from alignset.transforms.storage.documents import write_document
from alignset.transforms.storage.files import match
from alignset.transforms.workers.counts import Counts
from alignset.transforms.workers.summaries import WriteSummary


def check_retry(settings: Settings) -> None:
    """Raises UsageError where --retry_failed is to be run by what only makes a job's graph."""
    template = settings.beam.get_all_options().get("template_location")
    if settings.retry_failed and (template or is_dry_run(settings.beam)):
        raise UsageError(
            "--retry_failed looks at what one job has done before it makes the next: "
            "pass it to the command itself, without a template or --dry_run"
        )


def begin_retry(folder: RunFolder) -> Change | None:
    """Writes down what is tried again, or finds it; None where nothing is to be.

    Raises:
      UsageError: the rows of failed fetches are missing.
    """
    if folder.change:
        return folder.change
    manifest, funnel = read_set(folder.out)
    paths = {path for path, _ in match(f"{folder.out}/rejected")}
    for path in map(ShardPlaces(folder.out).rejected, manifest.numbers):
        if path not in paths:  # no other command may wait for this one
            folder.clean()
            raise UsageError(
                f"{path} is missing, which has the failed fetches: bring it back, or fetch by a "
                "new run; nothing was changed"
            )
    failures = funnel.fetch.details if funnel else count_pairs(folder.out).details(FETCH_FAILED)
    details = failures.keys() - GONE if folder.retry == "true" else {*failures}
    if folder.retry not in ("true", "all"):
        details &= {*folder.retry.split(",")}
    if not details:
        return None
    entry = Retry(0, 0, None, {}, sorted(details), folder.description.blocklists)
    manifest = replace(manifest, retries=[*(manifest.retries or []), entry])
    change = Change("curate", [folder.retry_word], manifest)
    write_document(folder.work.change, change)
    return change


def details_of(change: Change) -> list[str]:
    """The details of the failures that a retry tries again."""
    assert change.manifest.retries is not UNSET
    return change.manifest.retries[-1].details


def plan_retry(pipeline: beam.Pipeline, change: Change, settings: Settings, places: Places) -> None:
    """The text stage of a retry: rows of `rejected/` to plans of shards. Held-out pairs stay held
    out."""
    out, details, blocks = places.out, details_of(change), places.blocks
    carried = [field.name for field in settings.carried]

    def read(shard: int) -> Iterator[Bucket]:
        for block in blocks.pack([*read_failed(shard, out, details, carried)]):
            yield shard, block

    old, counts, plans = change.manifest.numbers, [], []
    for first_shard, name in ((0, "shards"), (HOLDOUT, "holdout")):
        of_kind = [shard for shard in old if (shard >= HOLDOUT) == (first_shard == HOLDOUT)]
        shards = (
            pipeline | f"Old {name}" >> beam.Create(of_kind) | f"Spread {name}" >> beam.Reshuffle()
        )
        pairs = shards | f"Failed {name}" >> beam.FlatMap(read).with_output_types(BUCKET)
        rows = pairs | f"Rows {name}" >> beam.MapTuple(lambda _, block: len(unpack(block)))
        counts.append(rows | f"Count {name}" >> beam.CombineGlobally(sum))
        plan = PlanShards(
            *(places.work.plan, settings.samples_per_shard, counts[-1], blocks),
            first=max(of_kind, default=first_shard - 1) + 1,
        )
        plans.append((pairs | f"Plan {name}" >> plan).shards)
    shards = plans | "All" >> beam.Flatten() | beam.combiners.ToDict()
    rows_read = counts | "Pairs" >> beam.Flatten()
    pipeline | "Plan" >> WriteSummary(
        places.work.text_summary,
        partial(TextSummary, counts=Counts()),
        {"shards": shards},
        {"rows_read": (rows_read, sum)},
    )


def forget_retried(change: Change, places: Places) -> None:
    """Takes what was tried again out of the old shards' `rejected/`."""
    details, scratch = details_of(change), places.work.scratch
    forget = partial(forget_failed, out=places.out, details=details, scratch=scratch)
    list(in_threads(forget, change.manifest.numbers))


def manifest_of_retry(
    folder: RunFolder,
    change: Change,
    text: TextSummary,
    images: ImageSummary,
    numbers: Mapping[int, int],
) -> Manifest:
    """The manifest with what a retry brought.

    Args:
      numbers: the new number of each shard that has another than it was planned with.
    """
    base = change.manifest
    assert base.retries is not UNSET
    training, held_out = shard_entries(folder.out)
    new = sorted(numbers.get(shard, shard) for shard in text.shards)
    added = [n for n in new if n < HOLDOUT and training[shard_name(n)].pairs]
    entry = replace(
        base.retries[-1],
        tried=sum(text.shards.values()),
        kept=sum(entry.pairs for entry in (*training.values(), *held_out.values())) - base.pairs,
        shards=(added[0], added[-1]) if added else None,
        fetch=folder.description.fetch,
    )
    return replace(
        base,
        retries=[*base.retries[:-1], entry],
        near_duplicates=near_of(images.copies),
        fetched=days_of(folder, text.shards, base.fetched),
    )
