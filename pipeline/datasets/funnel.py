"""The funnel: what each step saw, kept and dropped, checked to add up; and what was counted of
fetches and of opt-outs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

from msgspec import UNSET, UnsetType

from alignset.pipeline.runs.documents import FetchReport, OptOuts, Settings, Step
from alignset.pipeline.runs.work_folder import ImageSummary
from alignset.transforms.rules.catalogue import PRODUCT, TAKEDOWN_STEPS, Catalogue
from alignset.transforms.rules.given import FETCH_FAILED, OPTED_OUT, TAKEN_DOWN
from alignset.transforms.shards.shard_stats import FailingHost
from alignset.transforms.workers.counts import Counts, add_counts


def funnel(counts: Counts, steps: Mapping[str, tuple[str, ...]]) -> list[Step]:
    """The steps in order, each with how many pairs it saw, kept, and dropped for each reason.

    Args:
      counts: of the pairs of one stage; what is kept follows from the rest.
      steps: each step's reasons.
    """
    seen, table = counts.seen, []
    for name, reasons in steps.items():
        dropped = {reason: counts.dropped.get(reason, 0) for reason in reasons}
        kept = seen - sum(dropped.values())
        table.append(Step(name, seen, kept, dropped))
        seen = kept
    return table


def whole_funnel(
    texts: Counts,
    images: Counts,
    taken_down: int | None = None,
    catalogue: Catalogue = PRODUCT,
) -> list[Step]:
    """The steps of both stages; the second sees what the first has kept.

    Args:
      taken_down: how many pairs were taken out after the run; None where nothing was.
    """
    table = funnel(texts, catalogue.text_steps)
    table += funnel(replace(images, seen=table[-1].kept), catalogue.image_steps)
    if taken_down is not None:
        table += funnel(Counts(table[-1].kept, 0, {TAKEN_DOWN: taken_down}), TAKEDOWN_STEPS)
    return table


def with_images(
    before: Iterable[Step], change: Callable[[Counts], Counts], catalogue: Catalogue
) -> list[Step]:
    """The steps of a finished dataset since the counts of its image stage have changed."""
    table = list(before)
    texts, images, taken_down = (
        counts_of(table, steps)
        for steps in (catalogue.text_steps, catalogue.image_steps, TAKEDOWN_STEPS)
    )
    # None where nothing was ever taken down: such a funnel has no step for it.
    removals = taken_down.dropped.get(TAKEN_DOWN)
    return whole_funnel(texts, change(images), removals, catalogue)


def counts_of(table: Iterable[Step], steps: Collection[str]) -> Counts:
    """The counts that some steps of a funnel were made of."""
    chosen_steps = [step for step in table if step.step in steps]
    if not chosen_steps:
        return Counts()
    dropped = add_counts(Counts(dropped=step.dropped) for step in chosen_steps).dropped
    return Counts(chosen_steps[0].seen, chosen_steps[-1].kept, dropped)


def check_funnel(table: list[Step], kept: int) -> None:
    """Raises where the funnel does not add up.

    Args:
      kept: how many pairs were in fact written.

    Raises:
      RuntimeError: naming the step and both numbers.
    """
    seen = table[0].seen
    for step in table:
        if step.seen != seen:
            raise RuntimeError(f"{step.step} has seen {step.seen} pairs, but {seen} came")
        if step.seen != step.kept + sum(step.dropped.values()) or step.kept < 0:
            raise RuntimeError(f"the counts of step {step.step} do not add up: {step}")
        seen = step.kept
    if seen != kept:
        raise RuntimeError(f"the funnel keeps {seen} pairs, but {kept} were written")


def failed_fetches(
    tried: int, statuses: Mapping[str, int], hosts: list[FailingHost]
) -> FetchReport:
    """The fetching in funnel.json.

    Args:
      tried: how many there were. statuses: all shards' `status_dict`, added up.
      hosts: those with the most failures.
    """
    details = details_of(FETCH_FAILED, statuses)
    return FetchReport(tried, details.total(), most_first(details), hosts)


def opt_outs(
    fetch: Settings, images: ImageSummary, *others: Mapping[str, int]
) -> OptOuts | UnsetType:
    """The opt-outs in funnel.json; nothing where none was met.

    Args:
      fetch: the settings. images: what the image stage has counted.
      others: counts by detail, of pages or of earlier runs.
    """
    details = details_of(OPTED_OUT, images.statuses)
    for counts in (images.reported, *others):
        details.update(counts)
    return OptOuts(str(fetch["opt_outs"]), most_first(details)) if details else UNSET


def details_of(reason: str, statuses: Mapping[str, int]) -> Counter[str]:
    """How many pairs were dropped for a reason, by detail, as a `status_dict` tells."""
    ends = ((status.partition(": "), count) for status, count in statuses.items())
    return Counter({detail: count for (of, _, detail), count in ends if of == reason})


def most_first(counts: Mapping[str, int]) -> dict[str, int]:
    """Counts by name, the highest first; equal ones by their names."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
