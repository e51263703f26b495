"""A run's last words: its funnel, and what the dataset lacks: input that could not be read, and
pairs where it holds next to none; why, and what to do."""

from __future__ import annotations

from collections.abc import Iterator

from alignset.pipeline.datasets.fetch_report import (
    hint_of,
    render_connections,
    render_failed,
    render_opt_outs,
)
from alignset.pipeline.datasets.funnel import (
    render_near_duplicates,
    render_pages,
    render_vocabulary,
)
from alignset.pipeline.datasets.history import render_stages
from alignset.pipeline.runs.documents import BrokenInput, Connections, Funnel, Step
from alignset.pipeline.shown_texts import on_one_line
from alignset.transforms.fetching.fetch_settings import GONE
from alignset.transforms.pages.page_counts import PageCounts
from alignset.transforms.rules.catalogue import PRODUCT, Catalogue
from alignset.transforms.rules.given import FETCH_FAILED
from alignset.transforms.shards.shard_stats import NearDuplicates
from alignset.transforms.storage.broken_files import BrokenFile, BrokenFiles, BrokenInputError

LEAST_SHARE = 0.01  # of the pairs whose images were to be fetched
MOST_BROKEN = 0.5  # of the input files
_MOST_TOLD = 20  # broken files that are named


def flags(catalogue: Catalogue = PRODUCT) -> dict[str, str]:
    """Which flag another threshold is given by, for each reason of a rule."""
    return {rule.reason: rule.instead or f"--{rule.name}" for rule in catalogue.rules}


def summary_lines(funnel: Funnel) -> Iterator[str]:
    """The funnel as text, and a line for each other thing that there is to say of a run."""
    yield render_stages(funnel)
    yield render_vocabulary(funnel.vocabulary)
    if isinstance(funnel.near_duplicates, NearDuplicates):
        yield render_near_duplicates(funnel.near_duplicates)
    if isinstance(funnel.pages, PageCounts):
        yield render_pages(funnel.pages)
    if isinstance(funnel.broken_input, BrokenInput):
        yield render_broken(funnel.broken_input)
    if funnel.opted_out:
        yield render_opt_outs(funnel.opted_out)
    if failed := render_failed(funnel.fetch):
        yield failed
    if isinstance(funnel.fetch.connections, Connections):
        yield render_connections(funnel.fetch.connections)


def too_little(funnel: Funnel, catalogue: Catalogue = PRODUCT) -> str:
    """What to say of a set that holds nothing, or almost nothing of what was to be fetched, or of
    its input; "" where it holds more than that."""
    images = [step for step in funnel.steps if step.step in catalogue.image_steps]
    planned = images[0].seen if images else 0
    if isinstance(funnel.broken_input, BrokenInput):
        broken = funnel.broken_input
        if broken.broken > MOST_BROKEN * broken.files:
            return (
                f"{broken.broken:,} of {broken.files:,} input files were broken, and the set is "
                "made of the rest; mend them, and give another --output"
            )
    if not funnel.steps[0].seen:
        return "the input holds no pair"
    steps = images if planned else funnel.steps
    reason, count = _most_dropped(steps)
    least = LEAST_SHARE * planned if reason == FETCH_FAILED else 1
    if funnel.pairs and funnel.holdout == funnel.pairs:
        held = f"all {funnel.pairs:,} pairs are held out"
        return f"{held}; give a smaller --holdout, and another --output"
    if funnel.pairs >= max(1, least):
        return ""
    held = f"{funnel.pairs:,} of {steps[0].seen:,} pairs were kept"
    if reason == FETCH_FAILED:
        return f"{held}: {_why_not_fetched(funnel)}"
    flag = flags(catalogue).get(reason, "")
    said = f"; the rule's flag is {flag}" if flag else ""
    return f"{held}: {count:,} were dropped as {reason}{said}, and rejected/ has each of them"


def _most_dropped(steps: list[Step]) -> tuple[str, int]:
    dropped = [item for step in steps for item in step.dropped.items()]
    return max(dropped, key=lambda item: item[1])


def _why_not_fetched(funnel: Funnel) -> str:
    detail, count = next(iter(funnel.fetch.details.items()))
    hint = f" ({hint_of(detail)})" if hint_of(detail) else ""
    return (
        f"{count:,} fetches failed with {detail}{hint}; once that is mended, the same command "
        f"with --retry_failed{'=all' if detail in GONE else ''} tries them again"
    )


def render_broken(broken: BrokenInput) -> str:
    """The broken files, some of them by name, whatever bytes these have."""
    named, details = broken.named[:_MOST_TOLD], broken.details.items()
    kinds = ", ".join(f"{count:,} {detail}" for detail, count in details)
    lines = [
        f"{broken.broken:,} of {broken.files:,} input files could not be read to their end, and "
        f"what could not be read was left out: {kinds}"
    ]
    lines += [f"  {_told(file)}" for file in named]
    if left := broken.broken - len(named):
        lines.append(f"  and {left:,} more: rejected/*.parquet, reason broken_input")
    return "\n".join(lines)


def refuse_if_all_broken(broken: BrokenFiles, files: int) -> None:
    """Raises BrokenInputError where none of so many files is whole: a set of remains is none."""
    if broken.broken and broken.broken >= files:
        others = f", nor any of the {broken.broken - 1:,} others" if broken.broken > 1 else ""
        first = broken.named[0]
        raise BrokenInputError(
            f"cannot read {first.path} to its end{others}: {first.fault}; replace the file or give "
            "other input, with another --output"
        )


def _told(file: BrokenFile) -> str:
    return on_one_line(f"{file.path} ({file.detail}: {file.fault})")
