"""The report's tables and sentences, out of what is known of a dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from markupsafe import Markup
from msgspec import UnsetType

from alignset.pipeline.datasets.facts import Facts
from alignset.pipeline.datasets.summary import LEAVING_LATER, hint_of
from alignset.pipeline.report.charts import share_bar, small_histogram
from alignset.pipeline.runs.documents import OptOuts
from alignset.pipeline.shown_texts import counted, printable
from alignset.transforms.columns.records import HASHES, KEPT, LANGUAGES, WORDS_BY_LANGUAGE, Top
from alignset.transforms.rules.given import BLOCKED, FETCH_FAILED, HASH_MISMATCH, OPTED_OUT
from alignset.transforms.rules.language import MIN_LANGUAGE_SCORE
from alignset.transforms.rules.rule import IMAGES, TEXTS
from alignset.transforms.rules.words import MAX_WORDS, MIN_WORDS

MOST_ROWS = 15
NO_BAR = Markup("")
_DETAILS_SHOWN = 3


@dataclass(frozen=True)
class TableRow:
    """A row of a table: its name, counts, and a bar of shares.

    Attributes:
      share: of `count` in the whole, as text. more: what is said of it in words.
      key: by which the page's script knows it, such as a reason.
    """

    name: str
    count: int
    share: str = ""
    bar: Markup = NO_BAR
    more: str = ""
    key: str = ""


@dataclass(frozen=True)
class FunnelStep:
    """A step of the funnel with its reasons."""

    name: str
    seen: int
    kept: int
    share: str
    bar: Markup
    reasons: list[TableRow] = field(default_factory=list)


def percent(part: float, whole: float) -> str:
    """A share as it is read: 12 %, 1.2 %, 0.03 %."""
    if not whole:
        return "–"
    share = 100 * part / whole
    if share and share < 0.01:
        return "< 0.01 %"
    digits = 0 if share >= 99.95 or not share else 1 if share >= 1 else 2
    return f"{share:.{digits}f} %"


def funnel_table(facts: Facts, lists: Mapping[str, object]) -> list[FunnelStep]:
    """The funnel's steps in order.

    Args:
      lists: the lists of examples by name.
    """
    total, steps = max(1, facts.seen), []
    for step in facts.steps:
        reasons = [
            _reason_row(facts, facts.catalogue.plane_of(step.step), reason, count, lists)
            for reason, count in step.dropped.items()
            if count
        ]
        before, now = step.seen / total, step.kept / total
        # Pairs of shards to come were dropped by no step.
        waiting = facts.waiting / total if facts.catalogue.plane_of(step.step) == IMAGES else 0.0
        bar = share_bar(
            [
                ("k", now),
                ("d", before - now),
                ("w", waiting),
                ("o", max(0.0, 1 - before - waiting)),
            ],
            f"{step.step}: {step.kept:,} of {step.seen:,} kept",
        )
        share = percent(step.kept, total)
        steps.append(FunnelStep(printable(step.step), step.seen, step.kept, share, bar, reasons))
    return steps


def _reason_row(
    facts: Facts, plane: str, reason: str, count: int, lists: Mapping[str, object]
) -> TableRow:
    name = printable(facts.catalogue.list_name(plane, reason))
    return TableRow(
        printable(reason),
        count,
        percent(count, max(1, facts.seen)),
        more=_first_details(facts.details.get((plane, reason), {})),
        key=name if name in lists else "",
    )


def _first_details(details: Mapping[str, int]) -> str:
    """As "dns 3, http_404 2, timeout 1 and 4 more"."""
    items = [(printable(name), n) for name, n in details.items() if name]
    text = ", ".join(f"{name} {n:,}" for name, n in items[:_DETAILS_SHOWN])
    if len(items) > _DETAILS_SHOWN:
        return f"{text} and {len(items) - _DETAILS_SHOWN:,} more"
    return text


def detail_rows(details: Mapping[str, int]) -> list[TableRow]:
    """Details of a reason, the most frequent first, with hints."""
    whole = sum(details.values())
    most = max(details.values(), default=1)
    rows = [
        TableRow(
            printable(name) or "(no detail)",
            count,
            percent(count, whole),
            share_bar([("d", count / most)], f"{printable(name)}: {count:,}"),
            hint_of(name),
        )
        for name, count in list(details.items())[:MOST_ROWS]
    ]
    if others := list(details.values())[MOST_ROWS:]:
        rows.append(TableRow(f"({len(others):,} more)", sum(others), percent(sum(others), whole)))
    return rows


def host_rows(facts: Facts) -> tuple[list[TableRow], str]:
    """The hosts with the most pairs, and how many were kept; and what is to be said of that."""
    top = facts.records.images.whole.tops.get("hosts", Top())
    totals = {host: sum(ends.values()) for host, ends in top.counts.items()}
    whole = sum(totals.values()) + top.others
    rows = []
    for host, total in sorted(totals.items(), key=lambda item: (-item[1], item[0]))[:MOST_ROWS]:
        kept = top.counts[host].get(KEPT, 0)
        bar = share_bar(
            [("k", kept / total), ("d", 1 - kept / total)],
            f"{printable(host)}: {kept:,} kept",
        )
        rows.append(TableRow(printable(host) or "(none)", total, percent(total, whole), bar))
    return rows, sample_note(top, "hosts")


def sample_note(top: Top, things: str) -> str:
    """A note on counts of the most frequent things."""
    if not top.counts:
        return ""
    first = f"The first {MOST_ROWS} of {len(top.counts):,}. " * (len(top.counts) > MOST_ROWS)
    if not top.others:
        return f"{first}All {len(top.counts):,} {things} were counted."
    return (
        f"{first}Each shard recorded its largest {things}: counts are at least these. Of other "
        f"{things} are {counted(top.others, 'pair')}."
    )


def failing_host_rows(facts: Facts) -> list[TableRow]:
    """The hosts with the most failed fetches, with why."""
    if facts.funnel is not None:
        hosts = [(host.host, host.details) for host in facts.funnel.fetch.hosts]
    else:
        prefix = f"{FETCH_FAILED}: "
        top = facts.records.images.whole.tops.get("hosts", Top())
        hosts = [
            (host, {e.removeprefix(prefix): n for e, n in ends.items() if e.startswith(prefix)})
            for host, ends in top.counts.items()
        ]
    tries = facts.records.images.whole.tops.get("hosts", Top()).counts
    rows = []
    for host, details in sorted(hosts, key=lambda item: -sum(item[1].values()))[:MOST_ROWS]:
        failures = sum(details.values())
        if not failures:
            continue
        items = sorted(details.items(), key=lambda item: (-item[1], item[0]))
        text = _first_details(dict(items))
        hint = hint_of(items[0][0])
        of = sum(tries.get(host, {}).values())
        rows.append(
            TableRow(
                printable(host)[:80] or "(none)",
                failures,
                f"{percent(failures, of)} of {of:,}" if of >= failures else "",
                more=f"{text} ({printable(items[0][0])}: {hint})" if hint else text,
            )
        )
    return rows


def text_rows(top: Top, kind: str, least: int = 1) -> list[TableRow]:
    """The most frequent texts; kind: of their bars, `k` where they were kept, else `d`."""
    totals = {text: sum(ends.values()) for text, ends in top.counts.items()}
    items = sorted(totals.items(), key=lambda item: (-item[1], item[0]))
    most = max(totals.values(), default=1)
    return [
        TableRow(printable(text), n, bar=share_bar([(kind, n / most)], f"{n:,}"))
        for text, n in items[:MOST_ROWS]
        if n >= least
    ]


def language_rows(facts: Facts) -> list[TableRow]:
    """The languages of the texts that were dropped for theirs."""
    return detail_rows(facts.details.get((TEXTS, MIN_LANGUAGE_SCORE.reason), {}))


def found_language_rows(facts: Facts) -> list[TableRow]:
    """All languages that the vote found: how many texts, how many of them are in the dataset, how
    many words they have, and for what most were dropped."""
    texts, images = facts.records.texts.whole, facts.records.images.whole
    ends = texts.tops.get(LANGUAGES, Top()).counts
    in_set = ends if facts.text_only else images.tops.get(LANGUAGES, Top()).counts
    words = texts.tops.get(WORDS_BY_LANGUAGE, Top()).counts
    totals = {code: sum(of_language.values()) for code, of_language in ends.items()}
    rows = []
    for code, total in sorted(totals.items(), key=lambda item: (-item[1], item[0])):
        kept = in_set.get(code, {}).get(KEPT, 0)
        if not total:
            continue
        label = printable(code)
        counts = {int(name): n for name, n in words.get(code, {}).items() if name.isdecimal()}
        middle = f"median {counted(_median(counts), 'word')}"
        bar = small_histogram(counts, _kept_words(facts), f"{label}: {middle}")
        drop_counts = Counter(ends[code])
        if not facts.text_only:
            drop_counts.update(images.tops.get(LANGUAGES, Top()).counts.get(code, {}))
        del drop_counts[KEPT]
        reasons = ", ".join(
            f"{printable(why)} {percent(n, total)}" for why, n in drop_counts.most_common(3) if n
        )
        more = "; ".join(
            [f"{kept:,} kept ({percent(kept, total)})", middle, *filter(None, [reasons])]
        )
        rows.append(TableRow(label, total, percent(total, sum(totals.values())), bar, more))
    return rows


def _kept_words(facts: Facts) -> range:
    """How many words the rules keep; limits of single languages are not in it."""
    least, most = (facts.rules.get(limit.name) for limit in (MIN_WORDS, MAX_WORDS))
    return range(int(least or 0), int(most or 1 << 30) + 1)


def _median(counts: Mapping[int, int]) -> int:
    sums = accumulate(counts[number] for number in sorted(counts))
    total = sum(counts.values())
    return next((n for n, of in zip(sorted(counts), sums, strict=True) if 2 * of >= total), 0)


def opt_out_rows(facts: Facts) -> list[TableRow]:
    """Opt-outs by kind; of kept pairs too."""
    if facts.funnel is not None and isinstance(facts.funnel.opted_out, OptOuts):
        return detail_rows(facts.funnel.opted_out.details)
    return detail_rows(_of_both_planes(facts, OPTED_OUT))


def blocked_rows(facts: Facts) -> list[TableRow]:
    """The blocklists that kept pairs out, each with the kind of its entry."""
    return detail_rows(_of_both_planes(facts, BLOCKED))


def other_file_rows(facts: Facts) -> tuple[list[TableRow], str]:
    """The hosts of the files that are not those whose hashes the input has; and what else is to be
    said of these hashes."""
    whole = facts.records.images.whole
    hashes = whole.histograms.get(HASHES, {})
    if not hashes:
        return [], ""
    counts = Counter[str]()
    for host, ends in whole.tops.get("hosts", Top()).counts.items():
        counts[host] = sum(n for end, n in ends.items() if end.partition(":")[0] == HASH_MISMATCH)
    without = hashes.get(KEPT, {}).get("without", 0)
    note = f"{counted(without, 'kept pair')} came without a hash, or with the image, and could not"
    note += " be compared."
    return detail_rows(dict((+counts).most_common())), note


def _of_both_planes(facts: Facts, reason: str) -> dict[str, int]:
    total: Counter[str] = Counter()
    for plane in (TEXTS, IMAGES):
        total.update(facts.details.get((plane, reason), {}))
    return dict(total.most_common())


def copies(facts: Facts) -> str:
    """How many images have the bytes of another of the dataset."""
    shared_contents, near = facts.copies, facts.near
    if isinstance(shared_contents, UnsetType):
        return ""
    same = "No two images of the dataset have the same bytes."
    if shared_contents.images:
        groups = counted(shared_contents.contents, "group")
        same = f"{shared_contents.images:,} images have the bytes of another, in {groups}."
    if near and near.distances:
        graphics = counted(near.images, "graphic")
        return f"{same} {graphics} near another image stayed; photographs left."
    if isinstance(near, UnsetType) or not near.compared:
        return same
    if any(facts.dropped.get(reason) for reason in LEAVING_LATER):
        return f"{same} Before pairs left, about {near.estimate:,} more were near-duplicates."
    return (
        f"{same} About {near.estimate:,} more are near-duplicates of another: {near.images:,} have "
        f"its perceptual hash, and {near.alike:,} of {counted(near.compared, 'such pair')} that "
        "were compared show one image. Equal hashes find some 7 of 10 such copies."
    )
