"""The funnel: what each step saw, kept and dropped, checked to add up."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from msgspec import UnsetType

from alignset.pipeline.runs.documents import Step
from alignset.pipeline.shown_texts import counted
from alignset.transforms.corpus.corpus_documents import VocabularySummary
from alignset.transforms.pages.page_counts import PageCounts
from alignset.transforms.rules.catalogue import PRODUCT, TAKEDOWN_STEPS, Catalogue
from alignset.transforms.rules.given import TAKEN_DOWN
from alignset.transforms.shards.shard_stats import NearDuplicates
from alignset.transforms.workers.counts import Counts, add_counts


def funnel(counts: Counts, steps: Mapping[str, tuple[str, ...]]) -> list[Step]:
    """The steps in order, each with how many pairs it saw, kept, and dropped for each reason.

    Args:
      counts: of the pairs of one plane; what is kept follows from the rest.
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
    """The steps of both planes, of which the second sees what the first has kept.

    Args:
      taken_down: how many pairs were taken out after the run; None where nothing was.
    """
    table = funnel(texts, catalogue.text_steps)
    table += funnel(replace(images, seen=table[-1].kept), catalogue.image_steps)
    if taken_down is not None:
        table += funnel(Counts(table[-1].kept, 0, {TAKEN_DOWN: taken_down}), TAKEDOWN_STEPS)
    return table


def counts_of(table: Iterable[Step], steps: Collection[str]) -> Counts:
    """The counts that some steps of a funnel were made of."""
    taken = [step for step in table if step.step in steps]
    if not taken:
        return Counts()
    dropped = add_counts(Counts(dropped=step.dropped) for step in taken).dropped
    return Counts(taken[0].seen, taken[-1].kept, dropped)


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


def render_near_duplicates(near: NearDuplicates) -> str:
    """One line on the images that look like another."""
    return (
        f"near-duplicates: {near.images:,} images share their perceptual hash with another, in "
        f"{counted(near.hashes, 'group')}; they are kept"
    )


def render_vocabulary(vocabulary: VocabularySummary) -> str:
    """One line on the vocabulary, of this corpus or as one was given."""
    size = f"vocabulary: {vocabulary.vocabulary:,}"
    if isinstance(vocabulary.by_count, UnsetType):
        return f"{size} n-grams, of the given file"
    cut, once = vocabulary.cut_off_count, vocabulary.by_count[:1]
    parts = [
        f"{size} of {vocabulary.ngrams:,} n-grams",
        f"{vocabulary.share_of_occurrences:.1%} of {vocabulary.occurrences:,} occurrences",
        f"cut within those that occur {cut:,} times" if cut else "nothing cut",
        f"{once[0].ngrams if once else 0:,} occur once",
    ]
    return "; ".join(parts)


def render_pages(counts: PageCounts) -> str:
    """One line on the pages, as `ParsePages` counted them."""
    records = f" of {counted(counts.records, 'record')}" if counts.records else ""
    others = (
        (counts.not_ok, "not 2xx"),
        (counts.not_html, "not HTML"),
        (counts.no_response, "no answers"),
    )
    parts = [f"{count:,} {name}" for count, name in others if count]
    pages, broken = f"pages: {counts.pages:,}{records}", f"{counts.broken:,} broken"
    return "; ".join([pages, *parts, broken, counted(counts.pairs, "pair")])


def render_funnel(table: list[Step]) -> str:
    """The funnel as text, a line a step and a line a reason."""
    total = max(1, table[0].seen)
    lines = [f"{'step':<28}{'seen':>13}{'dropped':>13}{'kept':>13}{'of all':>9}"]
    for step in table:
        dropped = step.seen - step.kept
        share = f"{step.kept / total:.1%}"
        lines.append(f"{step.step:<28}{step.seen:>13,}{dropped:>13,}{step.kept:>13,}{share:>9}")
        lines += [f"  {why:<26}{'':>13}{n:>13,}" for why, n in step.dropped.items() if n]
    return "\n".join(lines)
