"""The report's tables and sentences, out of what is known of a dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate

import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup

from alignset.pipeline.datasets.facts import Facts
from alignset.pipeline.datasets.numbers import Tally
from alignset.pipeline.datasets.summary import copies_text, hint_of
from alignset.pipeline.report.charts import share_bar, small_histogram
from alignset.pipeline.runs.documents import OptOuts
from alignset.pipeline.shown_texts import counted, printable
from alignset.transforms.columns.records import KEPT
from alignset.transforms.rules.given import BLOCKED, HASH_MISMATCH
from alignset.transforms.rules.language import MIN_LANGUAGE_SCORE
from alignset.transforms.rules.rule import IMAGES, TEXTS
from alignset.transforms.rules.words import MAX_WORDS, MIN_WORDS

MOST_ROWS = 15
NO_BAR = Markup("")
_DETAILS_SHOWN, _MOST_LANGUAGES = 3, 256


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
    items = [(name, n) for name, n in details.items() if name]
    text = ", ".join(f"{printable(name)} {n:,}" for name, n in items[:_DETAILS_SHOWN])
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


def host_rows(facts: Facts) -> list[TableRow]:
    """The hosts with the most pairs, and how many were kept."""
    hosts = facts.numbers.hosts
    totals = hosts.first_totals()
    whole, rows = pc.sum(totals["n"]).as_py() or 0, []
    of_hosts = hosts.only(totals[0].slice(0, MOST_ROWS)).nested()
    for host, outcomes in sorted(of_hosts.items(), key=lambda of: (-sum(of[1].values()), of[0])):
        total, kept = sum(outcomes.values()), outcomes.get(KEPT, 0)
        bar = share_bar(
            [("k", kept / total), ("d", 1 - kept / total)],
            f"{printable(host)}: {kept:,} kept",
        )
        share = percent(total, whole + hosts.others)
        rows.append(TableRow(printable(host) or "(none)", total, share, bar))
    return rows


def tally_note(tally: Tally, things: str, shown: int) -> str:
    """A note on counts of the most frequent things, of which some are shown."""
    size = len(tally.first_totals())
    if not size:
        return ""
    first = f"The first {shown} of {size:,}. " * (size > shown)
    if not tally.others:
        return f"{first}All {size:,} {things} were counted."
    return (
        f"{first}The most frequent {things} were counted: counts are at least these. Of other "
        f"{things} are {counted(tally.others, 'pair')}."
    )


def failing_host_rows(facts: Facts) -> list[TableRow]:
    """The hosts with the most failed fetches, with why."""
    hosts = facts.funnel.fetch.hosts if facts.funnel else facts.counts.hosts
    names = pa.chunked_array([pa.array([of.host for of in hosts], pa.string())])
    tries = facts.numbers.hosts.only(names).counts()
    rows = []
    for of in sorted(hosts, key=lambda of: -of.failed)[:MOST_ROWS]:
        items = sorted(of.details.items(), key=lambda item: (-item[1], item[0]))
        text, hint, tried = _first_details(dict(items)), hint_of(items[0][0]), tries.get(of.host, 0)
        rows.append(
            TableRow(
                printable(of.host)[:80] or "(none)",
                of.failed,
                f"{percent(of.failed, tried)} of {tried:,}" if tried >= of.failed else "",
                more=f"{text} ({printable(items[0][0])}: {hint})" if hint else text,
            )
        )
    return rows


def text_rows(tally: Tally, kind: str, least: int = 1) -> list[TableRow]:
    """The most frequent texts; kind: of their bars, `k` where they were kept, else `d`."""
    items = [*tally.counts().items()][:MOST_ROWS]
    most = max((n for _, n in items), default=1)
    return [
        TableRow(printable(text) or "(no text)", n, bar=share_bar([(kind, n / most)], f"{n:,}"))
        for text, n in items
        if n >= least
    ]


def language_rows(facts: Facts) -> list[TableRow]:
    """The languages of the texts that were dropped for theirs."""
    return detail_rows(facts.details.get((TEXTS, MIN_LANGUAGE_SCORE.reason), {}))


def found_language_rows(facts: Facts) -> list[TableRow]:
    """All languages that the vote found: how many texts, how many of them are in the dataset, how
    many words they have, and for what most were dropped."""
    words, rows = facts.numbers.words_of_languages.nested(), []
    languages, totals = facts.numbers.languages.nested(), facts.numbers.languages.counts()
    # Limits of single languages are not in it.
    least, most = (facts.rules.get(limit.name) for limit in (MIN_WORDS, MAX_WORDS))
    kept_words = range(int(least or 0), int(most or 1 << 30) + 1)
    for code, total in [*totals.items()][:_MOST_LANGUAGES]:
        outcomes, label = languages[code], printable(code)
        kept = outcomes.get(KEPT, 0)
        counts = {int(name): n for name, n in words.get(code, {}).items()}
        sums = zip(sorted(counts), accumulate(counts[n] for n in sorted(counts)), strict=True)
        middle = f"median {counted(next((n for n, of in sums if 2 * of >= total), 0), 'word')}"
        bar = small_histogram(counts, kept_words, f"{label}: {middle}")
        dropped = Counter({why: n for why, n in outcomes.items() if why != KEPT})
        reasons = ", ".join(
            f"{printable(why)} {percent(n, total)}" for why, n in dropped.most_common(3)
        )
        more = "; ".join(
            [f"{kept:,} kept ({percent(kept, total)})", middle, *filter(None, [reasons])]
        )
        rows.append(TableRow(label, total, percent(total, sum(totals.values())), bar, more))
    return rows


def opt_out_rows(facts: Facts) -> list[TableRow]:
    """Opt-outs by kind; of kept pairs too."""
    if facts.funnel is not None and isinstance(facts.funnel.opted_out, OptOuts):
        return detail_rows(facts.funnel.opted_out.details)
    return detail_rows(facts.counts.opted_out)


def blocked_rows(facts: Facts) -> list[TableRow]:
    """The blocklists that kept pairs out, each with the kind of its entry."""
    return detail_rows(facts.counts.details(BLOCKED))


def other_file_rows(facts: Facts) -> tuple[list[TableRow], str]:
    """The hosts of the files that are not those whose hashes the input has; and what else is to be
    said of these hashes."""
    if not facts.judging.verified:
        return [], ""
    table = facts.numbers.hosts.table()
    rows = table.filter(pc.equal(table["outcome"], HASH_MISMATCH)).to_pylist()
    without = facts.numbers.without_hash
    note = f"{counted(without, 'kept pair')} came without a hash, and could not be compared."
    return detail_rows({row["host"]: row["n"] for row in rows}), note


def copies(facts: Facts) -> str:
    """How many images have the bytes of another of the dataset, and how many look like one."""
    text, near = copies_text(facts.copies, facts.near), facts.near
    text = f"{text[:1].upper()}{text[1:]}." if text else ""
    if not text or not near or near.distances or not near.compared:
        return text
    return (
        f"{text} {near.images:,} have the perceptual hash of another, and {near.alike:,} of "
        f"{counted(near.compared, 'such pair')} that were compared show one image. Equal hashes "
        "find some 7 of 10 such copies."
    )
