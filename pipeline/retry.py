"""`--retry_failed`: what could not be fetched is tried again, and joins the same dataset.

A finished run's shards stay as they are, byte for byte. The pairs whose fetch failed are planned as
a run plans its own: by URL, into shards of their own, numbered on from the last. When these are
whole, the pairs are taken out of the old shards' `rejected/`, numbers in whose shards nothing is
kept are filled, and the closing documents are written anew, the manifest last. If it is
interrupted, the same command resumes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import apache_beam as beam
from msgspec import UnsetType

from alignset.pipeline.command import Command
from alignset.pipeline.copies import describing_cost, descriptors_folder
from alignset.pipeline.curate import Places
from alignset.pipeline.curate_images import curate_images, run_images
from alignset.pipeline.datasets.copy_groups import publish_copies
from alignset.pipeline.datasets.funnel import check_funnel, failed_fetches, opt_outs, with_images
from alignset.pipeline.datasets.sizes_and_days import fetch_days
from alignset.pipeline.documents.closing import (
    close,
    connections,
    renumber,
    with_shards,
    without_copies,
    written_of,
)
from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.find_evaluation import Evaluation
from alignset.pipeline.progress import say
from alignset.pipeline.rewrite import rewrite
from alignset.pipeline.runs.documents import FetchReport, Funnel, Manifest, Retry, Step
from alignset.pipeline.runs.engine import Engine
from alignset.pipeline.runs.run_folder import RunFolder
from alignset.pipeline.runs.work_folder import (
    FailingHosts,
    ImageSummary,
    RetryBase,
    RetryPlan,
    with_rewritten,
)
from alignset.transforms.fetching.fetch_settings import GONE
from alignset.transforms.rules.catalogue import Catalogue
from alignset.transforms.rules.given import FETCH_FAILED
from alignset.transforms.safety.model_files import UnsafeModel
from alignset.transforms.shards.failed_fetches import FindFailingHosts, ReadFailed, forget_failed
from alignset.transforms.shards.plan_shards import PlanShards
from alignset.transforms.shards.renumber_shards import was_renumbered
from alignset.transforms.shards.shard_places import HOLDOUT, ShardPlaces
from alignset.transforms.storage.blocks import unpack
from alignset.transforms.storage.files import is_local, match
from alignset.transforms.workers.counts import Counts, add_by_name, add_counts
from alignset.transforms.workers.summaries import WriteSummary


def details_to_retry(choice: str, failures: Mapping[str, int]) -> list[str]:
    """The details of failed fetches that are tried again.

    Args:
      choice: what `--retry_failed` was given: "true", "all" or details, comma-separated.
      failures: how many fetches of the dataset failed with each detail.
    """
    if choice == "true":
        return sorted(failures.keys() - GONE)
    return sorted(failures if choice == "all" else failures.keys() & set(choice.split(",")))


def retry_failed(
    command: Command,
    folder: RunFolder,
    evaluation: Evaluation,
    places: Places,
    engine: Engine,
    unsafe_model: UnsafeModel | None,
) -> Funnel:
    """Tries again what could not be fetched; returns the funnel that there then is.

    Args:
      unsafe_model: what scores the images, as workers find it; None where nothing does.

    Raises:
      UsageError: a retry of other details was stopped.
    """
    base = folder.retry_base()
    details = details_to_retry(command.job.retry_failed, base.funnel.fetch.details)
    old = base.manifest.numbers
    plan = folder.work.find_retry_plan()
    if plan is None:
        there = {path for path, _ in match(f"{places.out}/rejected")}
        for path in map(ShardPlaces(places.out).rejected, old):
            if path not in there:  # no other command may wait for this one
                folder.clean()
                raise UsageError(
                    f"{path} is missing, which has the failed fetches: bring it back, or fetch by "
                    "a new run; nothing was changed"
                )
        with engine.pipeline("plan") as pipeline:
            _plan(pipeline, old, details, command, places)
        plan = folder.work.find_retry_plan()
        assert plan is not None
    elif plan.details != details:
        raise UsageError(
            f"a --retry_failed={','.join(plan.details)} of {folder.out} was stopped; "
            "pass just that to resume it"
        )
    if plan.pairs:
        if not folder.work.find_images():
            before, shards = base.manifest, sorted(plan.shards)
            if descriptors_folder(command, places):
                say(describing_cost(before.pairs))

            def build(pipeline: beam.Pipeline) -> None:
                curate_images(
                    pipeline, shards, evaluation, command, places, before.holding, unsafe_model
                )

            resumed, verb = bool(folder.earlier), "fetch again"
            run_images(engine, places, plan.shards, unsafe_model, build, verb=verb, resumed=resumed)
        folder.check_lock()
        if not was_renumbered(places.work.path):  # or shards have other numbers by now
            with engine.pipeline("rejected") as pipeline:
                _forget(pipeline, old, plan, places)
        images = folder.work.find_images()
        assert images is not None, "the image stage has ended"
        rewrite(places.out, places.work, places.fence, engine)
    return close_retry(folder, base, plan)


def _plan(
    pipeline: beam.Pipeline,
    old: list[int],
    details: list[str],
    command: Command,
    places: Places,
) -> None:
    carried_columns = [field.name for field in command.carried]
    counts, plans = [], []
    # What is held out stays so.
    for first, name in ((0, "shards"), (HOLDOUT, "holdout")):
        of_kind = [shard for shard in old if (shard >= HOLDOUT) == (first == HOLDOUT)]
        shards = (
            pipeline | f"Old {name}" >> beam.Create(of_kind) | f"Spread {name}" >> beam.Reshuffle()
        )
        failed_pairs = shards | f"Failed {name}" >> ReadFailed(
            places.out, details, places.blocks, carried_columns
        )
        rows = failed_pairs | f"Rows {name}" >> beam.MapTuple(lambda _, block: len(unpack(block)))
        counts.append(rows | f"Count {name}" >> beam.CombineGlobally(sum))
        plan = PlanShards(
            places.work.plan,
            command.job.samples_per_shard,
            counts[-1],
            places.blocks,
            first=max(of_kind, default=first - 1) + 1,
        )
        plans.append((failed_pairs | f"Plan {name}" >> plan).shards)
    shards = plans | "All" >> beam.Flatten() | beam.combiners.ToDict()
    summary = {"shards": shards, "details": pipeline | "Details" >> beam.Create([details])}
    pairs = counts | "Pairs" >> beam.Flatten()
    pipeline | "Plan" >> WriteSummary(
        places.work.retry_plan, RetryPlan, summary, {"pairs": (pairs, sum)}
    )


def _forget(pipeline: beam.Pipeline, old: list[int], plan: RetryPlan, places: Places) -> None:
    """Takes what was tried again out of the old shards' books; then counts failures by host."""
    scratch = places.work.path if is_local(places.work.path) else None
    forget = partial(
        forget_failed, out=places.out, details=plan.details, scratch=scratch, fence=places.fence
    )
    forgotten = pipeline | "Old" >> beam.Create(old) | beam.Reshuffle() | beam.Map(forget)
    new = pipeline | "New" >> beam.Create(sorted(plan.shards))
    hosts = (forgotten, new) | beam.Flatten() | FindFailingHosts(places.out)
    pipeline | WriteSummary(places.work.retry_hosts, FailingHosts, {"hosts": hosts})


def close_retry(folder: RunFolder, base: RetryBase, plan: RetryPlan) -> Funnel:
    """Writes the closing documents with what a retry brought; returns the funnel.

    Raises:
      RuntimeError: the counts do not add up.
    """
    folder.check_lock()
    if not plan.pairs:
        folder.clean()
        return base.funnel
    images = folder.work.find_images()
    assert images is not None, "the image stage has ended"
    images = without_copies(images)
    steps = _steps(base.funnel, plan, images, base.manifest.catalogue)
    pairs = base.manifest.pairs + images.counts.kept
    check_funnel(steps, pairs)
    manifest = _manifest(folder, base.manifest, plan, images)
    before = base.funnel.opted_out
    closing = replace(
        base.funnel,
        fetch=_fetch(folder, base.funnel.fetch, plan, images),
        opted_out=opt_outs(
            folder.description.fetch,
            images,
            *([] if isinstance(before, UnsetType) else [before.details]),
        ),
        pairs=pairs,
        steps=steps,
        copies=images.copies.shared,
        near_duplicates=publish_copies(folder.out, folder.work),
    )
    return close(folder, manifest, closing)


def _steps(
    before: Funnel, plan: RetryPlan, images: ImageSummary, catalogue: Catalogue
) -> list[Step]:
    """The funnel in which each pair that was tried again counts where that ended."""
    retry_count = sum(before.fetch.details[detail] for detail in plan.details)
    if not retry_count == plan.pairs == images.counts.seen:
        raise RuntimeError(
            f"{retry_count} fetches had failed and {plan.pairs} were tried again: "
            "was a file in rejected/ changed?"
        )

    def with_tried(earlier: Counts) -> Counts:
        failures = {FETCH_FAILED: earlier.dropped.get(FETCH_FAILED, 0) - retry_count}
        return add_counts([replace(earlier, dropped=earlier.dropped | failures), images.counts])

    return with_images(before.steps, with_tried, catalogue)


def _fetch(
    folder: RunFolder, before: FetchReport, plan: RetryPlan, images: ImageSummary
) -> FetchReport:
    """The fetching in the documents: the failures that were not tried again, and the new ones."""
    rest = {f"{FETCH_FAILED}: {d}": n for d, n in before.details.items() if d not in plan.details}
    statuses = add_by_name([rest, images.statuses])
    fetch = failed_fetches(before.tried, statuses, folder.work.read_retry_hosts())
    return replace(fetch, connections=connections(images))


def _manifest(
    folder: RunFolder, before: Manifest, plan: RetryPlan, images: ImageSummary
) -> Manifest:
    """The manifest with the new shards and the retry; brings these shards where they stay."""
    rewritten = folder.work.find_rewritten(images.copies)
    assert rewritten is not None, "copies are taken out"
    all_shards = with_rewritten([*written_of(before), *images.shards], rewritten)
    shards = renumber(folder.out, folder.work.path, all_shards)
    new = shards[len(before.numbers) :]
    added_numbers = [shard.number for shard in new if shard.kept and shard.number < HOLDOUT]
    retry = Retry(
        tried=plan.pairs,
        kept=images.counts.kept,
        shards=(min(added_numbers), max(added_numbers)) if added_numbers else None,
        fetch=folder.description.fetch,
        details=plan.details,
        blocklists=folder.description.blocklists,
    )
    earlier = before.retries or []
    return replace(
        with_shards(before, shards),
        pairs=before.pairs + images.counts.kept,
        retries=[*earlier, retry],
        fetched=fetch_days(folder.out, new, before, before.fetched),
    )
