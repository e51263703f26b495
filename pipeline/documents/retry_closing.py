"""The closing documents of a set whose failed fetches were tried again."""

from __future__ import annotations

from dataclasses import replace

from msgspec import UnsetType

from alignset.pipeline.datasets.fetch_report import failed_fetches, opt_outs
from alignset.pipeline.datasets.funnel import check_funnel, counts_of, whole_funnel
from alignset.pipeline.datasets.sizes_and_days import fetch_days
from alignset.pipeline.documents.closing import (
    close,
    connections,
    entries,
    held_out,
    renumbered,
    written_of,
)
from alignset.pipeline.runs.documents import FetchReport, Funnel, Manifest, Retry, Step
from alignset.pipeline.runs.run_folder import RunFolder
from alignset.pipeline.runs.work_folder import ImageSummary, RetryBase, RetryPlan
from alignset.transforms.rules.catalogue import TAKEDOWN_STEPS, Catalogue
from alignset.transforms.rules.given import FETCH_FAILED, TAKEN_DOWN
from alignset.transforms.shards.shard_places import HOLDOUT
from alignset.transforms.workers.counts import add_by_name, add_counts


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
    assert images is not None, "the image plane has ended"
    steps = _steps(base.funnel, plan, images, base.manifest.catalogue)
    kept = base.manifest.pairs + images.counts.kept
    check_funnel(steps, kept)
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
        pairs=kept,
        steps=steps,
        near_duplicates=images.near_duplicates,
    )
    return close(folder, manifest, closing)


def _steps(
    before: Funnel, plan: RetryPlan, images: ImageSummary, catalogue: Catalogue
) -> list[Step]:
    """The funnel in which each pair that was tried again counts where that ended."""
    texts, of_images, taken_down = (
        counts_of(before.steps, steps)
        for steps in (catalogue.text_steps, catalogue.image_steps, TAKEDOWN_STEPS)
    )
    tried = sum(before.fetch.details[detail] for detail in plan.details)
    if not tried == plan.pairs == images.counts.seen:
        raise RuntimeError(
            f"{tried} fetches had failed and {plan.pairs} were tried again: "
            "was a file in rejected/ changed?"
        )
    failed = of_images.dropped.get(FETCH_FAILED, 0) - tried
    untouched = replace(of_images, dropped=of_images.dropped | {FETCH_FAILED: failed})
    # None where nothing was ever taken down: such a funnel has no step for it.
    taken = taken_down.dropped.get(TAKEN_DOWN)
    return whole_funnel(texts, add_counts([untouched, images.counts]), taken, catalogue)


def _fetch(
    folder: RunFolder, before: FetchReport, plan: RetryPlan, images: ImageSummary
) -> FetchReport:
    """What is said of fetching: the failures that were not tried again, and the new ones."""
    left = {f"{FETCH_FAILED}: {d}": n for d, n in before.details.items() if d not in plan.details}
    statuses = add_by_name([left, images.statuses])
    fetch = failed_fetches(before.tried, statuses, folder.work.read_retry_hosts())
    return replace(fetch, connections=connections(images))


def _manifest(
    folder: RunFolder, before: Manifest, plan: RetryPlan, images: ImageSummary
) -> Manifest:
    """The manifest with the new shards and the retry; brings these shards where they stay."""
    shards = renumbered(folder.out, folder.work.path, [*written_of(before), *images.shards])
    new = shards[len(before.numbers) :]
    added = [shard.number for shard in new if shard.kept and shard.number < HOLDOUT]
    retried = Retry(
        tried=plan.pairs,
        kept=images.counts.kept,
        shards=(min(added), max(added)) if added else None,
        fetch=folder.description.fetch,
        details=plan.details,
        blocklists=folder.description.blocklists,
    )
    earlier = [] if isinstance(before.retries, UnsetType) else before.retries
    return replace(
        before,
        pairs=before.pairs + images.counts.kept,
        shards=entries(shards),
        holdout=held_out(folder, shards),
        retries=[*earlier, retried],
        fetched=fetch_days(folder.out, new, before, before.fetched),
    )
