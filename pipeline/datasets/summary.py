"""A run's last words: its funnel, and what the dataset lacks: input that could not be read, and
pairs where it holds next to none; why, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from textwrap import wrap

from msgspec import UnsetType

from alignset.pipeline.datasets.funnel import all_stages, most_first
from alignset.pipeline.runs.documents import BrokenInput, Connections, FetchReport, Funnel, Step
from alignset.pipeline.shown_texts import counted, escape_controls
from alignset.transforms.corpus.corpus_documents import VocabularySummary
from alignset.transforms.fetching.fetch_settings import GONE
from alignset.transforms.pages.page_counts import PageCounts
from alignset.transforms.rules.catalogue import PRODUCT, Catalogue
from alignset.transforms.rules.given import FETCH_FAILED
from alignset.transforms.shards.shard_stats import NearDuplicates, SharedContents
from alignset.transforms.storage.broken_files import BrokenFiles, BrokenInputError

LEAST_SHARE = 0.01  # of the pairs whose images were to be fetched
MOST_BROKEN = 0.5  # of the input files
_MOST_TOLD = 20  # broken files that are named
_LEAST_HINT_SHARE = 0.02  # of all that was tried: a detail that is rarer gets no hint
# By the beginning of the detail; the first that fits.
HINTS = {
    "dns": "is the resolver rate limiting? A local caching one helps",
    "refused": "hosts that are gone, or that refuse this machine",
    "unreachable": "has this machine a route, IPv6 among them?",
    "tls": "certificates that no browser would take, or an old CA bundle here",
    "timeout": "fewer --connections, or a longer --timeout_s, for a slow line",
    "reset": "hosts that hang up: fewer --connections_per_host",
    "cut_off": "hosts that hang up: fewer --connections_per_host",
    "too_large": "a larger --max_image_bytes, if such images are wanted",
    "forbidden_address": "private addresses, left alone without --allow_private_addresses",
    "no_robots_txt": "hosts whose robots.txt is unavailable for now: grow with --retry_failed",
    "no_license": "hosts whose licence file is unavailable for now: grow with --retry_failed",
    "deadline": "shards took too long: a longer --shard_timeout_s",
    "host_refuses": "hosts that refused their first 20 images: pass a --contact; do not insist",
    "challenge": "hosts that let browsers pass, and no robots: pass a --contact; do not insist",
    "http_403": "hosts that refuse robots: pass a --contact; do not insist",
    "http_404": "images that are gone",
    "http_410": "images that are gone",
    "http_429": "too fast: a lower --requests_per_second_per_host",
    "http_5": "hosts in trouble: try again later",
}


def flags(catalogue: Catalogue = PRODUCT) -> dict[str, str]:
    """Which flag another threshold is given by, for each reason of a rule."""
    return {rule.reason: rule.instead or f"--{rule.name}" for rule in catalogue.rules}


def summary_lines(funnel: Funnel) -> Iterator[str]:
    """The funnels of all stages as text, the last one's at the end, and a line for each other thing
    that there is to say of a run."""
    for stage in all_stages(funnel):
        if stage.steps:
            yield f"{stage.folder}: a source dataset with {counted(stage.pairs, 'pair')}"
            yield f"{render_funnel(stage.steps)}\n"
        else:
            yield f"{stage.folder}: a source dataset, from another version of alignset\n"
    yield render_funnel(funnel.steps)
    yield render_vocabulary(funnel.vocabulary)
    if text := copies_text(funnel.copies, funnel.near_duplicates):
        yield f"copies: {text}"
    if isinstance(funnel.pages, PageCounts):
        yield _pages_line(funnel.pages)
    if isinstance(funnel.broken_input, BrokenInput):
        yield from _broken_lines(funnel.broken_input)
    if of := funnel.opted_out:
        became = "dropped" if of.opt_outs == "reject" else "kept, with it in `opted_out`"
        details = ", ".join(f"{detail} {count:,}" for detail, count in of.details.items())
        yield f"not wanted by its owner, {became}: {details}; see docs/politeness.md"
    yield from _failure_lines(funnel.fetch)
    if connections := funnel.fetch.connections:
        yield _connections_line(connections)


def too_little(funnel: Funnel, catalogue: Catalogue = PRODUCT) -> str:
    """Advice for a dataset that holds nothing, or almost nothing of what was to be fetched, or of
    its input; "" where it holds more than that."""
    images = [step for step in funnel.steps if step.step in catalogue.image_steps]
    planned_pairs = images[0].seen if images else 0
    if isinstance(funnel.broken_input, BrokenInput):
        counts = funnel.broken_input
        if counts.broken > MOST_BROKEN * counts.files:
            return (
                f"{counts.broken:,} of {counts.files:,} input files were broken, and the dataset "
                "is made of the rest; mend them, and pass another --output"
            )
    if not funnel.steps[0].seen:
        return "the input holds no pair"
    steps = images if planned_pairs else funnel.steps
    items = [item for step in steps for item in step.dropped.items()]
    reason, count = max(items, key=lambda item: item[1])
    least = LEAST_SHARE * planned_pairs if reason == FETCH_FAILED else 1
    if funnel.pairs and funnel.holdout == funnel.pairs:
        outcome = f"all {funnel.pairs:,} pairs are held out"
        return f"{outcome}; pass a smaller --holdout, and another --output"
    if funnel.pairs >= max(1, least):
        return ""
    outcome = f"{funnel.pairs:,} of {steps[0].seen:,} pairs were kept"
    if reason == FETCH_FAILED:
        detail, count = next(iter(funnel.fetch.details.items()))
        hint = f" ({hint_of(detail)})" if hint_of(detail) else ""
        return (
            f"{outcome}: {counted(count, 'fetch', 'fetches')} failed with {detail}{hint}; once "
            f"that is mended, alignset grow OUT --retry_failed{'=all' if detail in GONE else ''} "
            "--output=NEW tries them again"
        )
    flag = flags(catalogue).get(reason, "")
    hint = f"; the rule's flag is {flag}" if flag else ""
    look = f"alignset look OUT --reason={reason} shows some"
    return f"{outcome}: {count:,} were dropped as {reason}{hint}; {look}"


def _broken_lines(counts: BrokenInput) -> Iterator[str]:
    """Yields the broken files, some of them by name, whatever bytes these have."""
    kinds = ", ".join(f"{count:,} {detail}" for detail, count in counts.details.items())
    yield (
        f"{counts.broken:,} of {counts.files:,} input files could not be read to their end, and "
        f"what could not be read was left out: {kinds}"
    )
    named = counts.named[:_MOST_TOLD]
    for file in named:
        yield "  " + escape_controls(f"{file.path} ({file.detail}: {file.fault})")
    if rest := counts.broken - len(named):
        yield f"  and {rest:,} more: rejected/*.parquet, reason broken_input"


def refuse_if_all_broken(counts: BrokenFiles, files: int) -> None:
    """Raises BrokenInputError where none of so many files is whole: a dataset of remains is
    none."""
    if counts.broken and counts.broken >= files:
        others = f", nor any of the {counts.broken - 1:,} others" if counts.broken > 1 else ""
        first = counts.named[0]
        raise BrokenInputError(
            f"cannot read {first.path} to its end{others}: {first.fault}; replace the file or give "
            "other input, with another --output"
        )


def copies_text(shared: SharedContents | UnsetType, near: NearDuplicates | UnsetType) -> str:
    """How many images have the bytes of another, and how many look like one; "" where nobody has
    counted."""
    if isinstance(shared, UnsetType):
        return ""
    text = "no two images have the same bytes"
    if shared.images:
        groups = counted(shared.contents, "group")
        text = f"{shared.images:,} images have the bytes of another, in {groups}"
    if not near or not near.estimate:
        return text
    if near.distances:  # of --duplicates=near: photographs left
        return f"{text}; {counted(near.estimate, 'graphic')} looked like another and stayed"
    return f"{text}; about {near.estimate:,} look like another"


def render_vocabulary(vocabulary: VocabularySummary) -> str:
    """One line on the vocabulary, of this corpus or as one was given."""
    size = f"vocabulary: {vocabulary.vocabulary:,}"
    if isinstance(vocabulary.by_count, UnsetType):
        return f"{size} n-grams, of the given file"
    cut_count = vocabulary.cut_off_count
    cut = f"cut within those that occur {cut_count:,} times" if cut_count else "nothing cut"
    return (
        f"{size} of {vocabulary.ngrams:,} n-grams; {vocabulary.share_of_occurrences:.1%} of "
        f"{vocabulary.occurrences:,} occurrences; {cut}; "
        f"{sum(of.ngrams for of in vocabulary.by_count[:1]):,} occur once"
    )


def _pages_line(counts: PageCounts) -> str:
    """One line on the pages, as `ParsePages` counted them."""
    records = f" of {counted(counts.records, 'record')}" if counts.records else ""
    others = {"not 2xx": counts.not_ok, "not HTML": counts.not_html}
    others |= {"no answers": counts.no_response}
    parts = [f"{count:,} {name}" for name, count in others.items() if count]
    parts += [f"{counts.broken:,} broken", counted(counts.pairs, "pair")]
    return "; ".join([f"pages: {counts.pages:,}{records}", *parts])


def render_funnel(table: list[Step]) -> str:
    """The funnel as text, a line a step and a line a reason; steps that dropped nothing share
    one."""
    total = max(1, table[0].seen)
    shown_steps = [step for step in table if step.kept < step.seen] or table[:1]
    lines = [f"{'step':<28}{'seen':>13}{'dropped':>13}{'kept':>13}{'of all':>9}"]
    for step in shown_steps:
        drop_count = step.seen - step.kept
        share = f"{step.kept / total:.1%}"
        lines.append(f"{step.step:<28}{step.seen:>13,}{drop_count:>13,}{step.kept:>13,}{share:>9}")
        lines += [f"  {why:<26}{'':>13}{n:>13,}" for why, n in step.dropped.items() if n]
    if idle := [step.step for step in table if step not in shown_steps]:
        lines += wrap(f"nothing dropped: {', '.join(idle)}", 76, subsequent_indent="  ")
    return "\n".join(lines)


def funnel_html(table: list[Step]) -> str:
    """The funnel as rows of an HTML table, in the colours of the page around it."""
    rows = [("step", "seen", "dropped", "kept", "of all", "reasons")]
    for step in table:
        share = step.kept / max(1, table[0].seen)
        reasons = ", ".join(f"{why} {n:,}" for why, n in step.dropped.items() if n)
        counts = f"{step.seen:,}", f"{step.seen - step.kept:,}", f"{step.kept:,}", f"{share:.1%}"
        rows.append((step.step, *counts, reasons))
    cells = [[f'<td style="text-align:right">{escape(cell)}' for cell in row] for row in rows]
    for row in cells:
        row[0], row[-1] = (cell.replace("right", "left", 1) for cell in (row[0], row[-1]))
    return "".join(f"<tr>{''.join(row)}" for row in cells)


def _connections_line(connections: Connections) -> str:
    """As "at most 1,024 connections at once in a worker; limited by CPU (9 shards), hosts (1)"."""
    counts = [(n, what) for what, n in most_first(connections.limits).items() if what != "rising"]
    units = [f" shard{'' if n == 1 else 's'}" if not at else "" for at, (n, _) in enumerate(counts)]
    limits = [f"{what} ({n:,}{of})" for (n, what), of in zip(counts, units, strict=True)]
    limited = f"limited by {', '.join(limits)}" if limits else "nothing limited them"
    return f"at most {connections.most:,} connections at once in a worker; {limited}"


def hint_of(detail: str) -> str:
    """Possible causes of this detail, and advice; "" where nobody can do anything."""
    return next((hint for begin, hint in HINTS.items() if detail.startswith(begin)), "")


def _failure_lines(fetch: FetchReport) -> Iterator[str]:
    """Yields the failures as a table; nothing where nothing failed."""
    if not fetch.failed:
        return
    of, share = counted(fetch.tried, "fetch", "fetches"), fetch.failed / fetch.tried
    yield f"{fetch.failed:,} of {of} failed ({share:.1%}); see docs/filters.md"
    for detail, count in fetch.details.items():
        share = count / fetch.tried
        hint = hint_of(detail) if share >= _LEAST_HINT_SHARE else ""
        yield f"  {detail:<20}{count:>11,}{share:>8.1%}  {hint}".rstrip()
    yield "hosts with the most failures"
    for host in fetch.hosts:
        most = ", ".join(f"{name} {count:,}" for name, count in [*host.details.items()][:3])
        host_name = "".join(c if c.isprintable() else "?" for c in host.host)[:48]
        yield f"  {host_name:<48}{host.failed:>11,}  {most}"
