"""The report's tables and sentences, out of what is known of a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate, islice

from markupsafe import Markup
from msgspec import UNSET

from alignset.pipeline.datasets.facts import Facts
from alignset.pipeline.datasets.funnel import most_first
from alignset.pipeline.datasets.numbers import Tally
from alignset.pipeline.datasets.summary import copies_text, hint_of
from alignset.pipeline.report.render import share_bar, small_histogram
from alignset.pipeline.runs.documents import Step
from alignset.pipeline.shown_texts import counted, printable
from alignset.transforms.columns.records import KEPT
from alignset.transforms.rules.given import BLOCKED, FETCH_FAILED, HASH_MISMATCH, OPTED_OUT
from alignset.transforms.rules.rule import IMAGES, TEXTS
from alignset.transforms.rules.thresholds import MAX_WORDS, MIN_LANGUAGE_SCORE, MIN_WORDS

_MOST_ROWS, _DETAILS_SHOWN, _MOST_LANGUAGES = 15, 3, 256


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
    bar: Markup | str = ""
    more: str = ""
    key: str = ""


@dataclass(frozen=True)
class Table:
    """A table of counts.

    Attributes:
      name, count, more: headers of these columns of its rows. note: what is said below it.
    """

    title: str
    name: str
    rows: list[TableRow]
    note: str = ""
    count: str = "pairs"
    more: str = ""


def percent(part: float, whole: float) -> str:
    """A share as it is read: 12 %, 1.2 %, 0.03 %."""
    if not whole:
        return "–"
    share = 100 * part / whole
    if share and share < 0.01:
        return "< 0.01 %"
    digits = 0 if share >= 99.95 or not share else 1 if share >= 1 else 2
    return f"{share:.{digits}f} %"


def funnel_table(
    facts: Facts, lists: Mapping[str, object]
) -> list[tuple[Step, Markup, list[TableRow]]]:
    """The funnel's steps in order, each with its bar and its reasons.

    Args:
      lists: the lists of examples by name.
    """
    total, table = max(1, facts.seen), []
    for step in facts.steps:
        stage, reasons = TEXTS if step.step in facts.catalogue.text_steps else IMAGES, []
        for reason, count in step.dropped.items():
            if count:
                key = printable(facts.catalogue.list_name(stage, reason))
                more = _first_details(facts.details.get((stage, reason), {}))
                key, share = key if key in lists else "", percent(count, total)
                reasons.append(TableRow(printable(reason), count, share, more=more, key=key))
        before, now = step.seen / total, step.kept / total
        # Pairs of shards to come were dropped by no step.
        waiting = facts.waiting / total if stage == IMAGES else 0.0
        parts = ("k", now), ("d", before - now), ("w", waiting), ("o", max(0, 1 - before - waiting))
        bar = share_bar(parts, f"{step.step}: {step.kept:,} of {step.seen:,} kept")
        table.append((step, bar, reasons))
    return table


def _first_details(details: Mapping[str, int]) -> str:
    """As "dns 3, http_404 2, timeout 1 and 4 more"."""
    items = [(name, n) for name, n in details.items() if name]
    text = ", ".join(f"{printable(name)} {n:,}" for name, n in items[:_DETAILS_SHOWN])
    if len(items) > _DETAILS_SHOWN:
        return f"{text} and {len(items) - _DETAILS_SHOWN:,} more"
    return text


def _detail_rows(details: Mapping[str, int]) -> list[TableRow]:
    """Details of a reason, the most frequent first, with hints."""
    total, most, rows = sum(details.values()), max(details.values(), default=1), []
    for name, n in islice(details.items(), _MOST_ROWS):
        bar = share_bar([("d", n / most)], f"{printable(name)}: {n:,}")
        label = printable(name) or "(no detail)"
        rows.append(TableRow(label, n, percent(n, total), bar, hint_of(name)))
    if others := list(details.values())[_MOST_ROWS:]:
        rows.append(TableRow(f"({len(others):,} more)", sum(others), percent(sum(others), total)))
    return rows


def _text_table(title: str, tally: Tally, kind: str, least: int) -> Table:
    """The most frequent texts; kind: of their bars, `k` where they were kept, else `d`."""
    items, rows = list(tally.totals().items())[:_MOST_ROWS], []
    for text, n in items:
        bar = share_bar([(kind, n / items[0][1])], f"{n:,}")
        rows += [TableRow(printable(text) or "(no text)", n, bar=bar)] * (n >= least)
    return Table(title, "text", rows, _tally_note(tally, "texts", len(rows)))


def _tally_note(tally: Tally, things: str, shown: int) -> str:
    """A note on counts of the most frequent things, where some are shown."""
    size = len(tally.totals())
    first = f"The first {shown} of {size:,}. " * (size > shown)
    if not tally.others:
        return f"{first}All {size:,} {things} were counted."
    return (
        f"{first}The most frequent {things} were counted: counts are at least these. Other "
        f"{things} have {counted(tally.others, 'pair')}."
    )


def set_tables(facts: Facts) -> list[Table]:
    """The tables of hosts, languages and texts of the pairs, where they are not empty."""
    numbers, host_rows = facts.numbers, []
    whole = numbers.hosts.counts.total() + numbers.hosts.others
    for host, total in islice(numbers.hosts.totals().items(), _MOST_ROWS):
        kept, name = numbers.hosts.counts[host, KEPT], printable(host)
        parts = [("k", kept / total), ("d", 1 - kept / total)]
        bar = share_bar(parts, f"{name}: {kept:,} kept")
        host_rows.append(TableRow(name or "(none)", total, percent(total, whole), bar))
    languages = _detail_rows(facts.details.get((TEXTS, MIN_LANGUAGE_SCORE.reason), {}))
    hosts_note = f"{_tally_note(numbers.hosts, 'hosts', len(host_rows))} Bars: how many were kept."
    tables = [
        Table("Hosts with the most pairs", "host", host_rows, hosts_note),
        Table("Languages of dropped texts", "language", languages),
        _text_table("Texts on too many images", numbers.frequent_texts, "d", 1),
        _text_table("Most frequent texts that were kept", numbers.kept_texts, "k", 2),
    ]
    return [table for table in tables if table.rows]


def failing_host_rows(facts: Facts) -> list[TableRow]:
    """The hosts with the most failed fetches, with why."""
    hosts = facts.funnel.fetch.hosts if facts.funnel else facts.counts.hosts
    tries, rows = facts.numbers.hosts.totals(), []
    for of in sorted(hosts, key=lambda of: -of.failed)[:_MOST_ROWS]:
        details, tried = most_first(of.details), tries.get(of.host, 0)
        text, first = _first_details(details), next(iter(details))
        more = f"{text} ({printable(first)}: {hint_of(first)})" if hint_of(first) else text
        share = f"{percent(of.failed, tried)} of {tried:,}" if tried >= of.failed else ""
        rows.append(TableRow(printable(of.host)[:80] or "(none)", of.failed, share, more=more))
    return rows


def fetch_tables(facts: Facts) -> list[Table]:
    """The tables of failures, opt-outs, blocked pairs and other files, where they are not empty."""
    funnel, hosts = facts.funnel, facts.numbers.hosts.counts
    opt_outs = facts.counts.details(OPTED_OUT)
    if funnel and funnel.opted_out:
        opt_outs = funnel.opted_out.details
    rows, stated = _detail_rows(opt_outs), "Pairs that state each opt-out."
    failures = _detail_rows(facts.details.get((IMAGES, FETCH_FAILED), {}))
    behind, blocked = "what may be behind it", _detail_rows(facts.counts.details(BLOCKED))
    tables = [
        Table("Why fetches failed", "detail", failures, "", "failed", behind),
        Table(
            "Hosts with the most failures", "host", failing_host_rows(facts), "", "failed", "why"
        ),
        Table("Opted out by their owners", "opt-out", rows, stated),
        Table("On a blocklist", "list and kind of its entry", blocked),
    ]
    tables = [table for table in tables if table.rows]
    if facts.verified:
        without = counted(facts.numbers.without_hash, "kept pair")
        others = {host: n for (host, why), n in hosts.items() if why == HASH_MISMATCH}
        rows = _detail_rows(most_first(others))
        note = f"{without} came without a hash, and could not be compared."
        tables.append(Table("Other files than the input's", "host", rows, note, "dropped"))
    return tables


def language_table(facts: Facts) -> Table:
    """All languages that the vote found: how many texts, how many of them are in the dataset, how
    many words they have, and for what most were dropped."""
    languages, rows = facts.numbers.languages, []
    words, whole = facts.numbers.words_of_languages.nested(), languages.counts.total()
    # Limits of single languages are not in it.
    least, most = (facts.rules.get(limit.name) for limit in (MIN_WORDS, MAX_WORDS))
    kept_words = range(int(least or 0), int(most or 1 << 30) + 1)
    for code, outcomes in languages.nested(_MOST_LANGUAGES).items():
        label, total, kept = printable(code), sum(outcomes.values()), outcomes.pop(KEPT, 0)
        counts = {int(name): n for name, n in words.get(code, {}).items()}
        counts = dict(sorted(counts.items()))
        sums = zip(counts, accumulate(counts.values()), strict=True)
        middle = f"median {counted(next((n for n, of in sums if 2 * of >= total), 0), 'word')}"
        bar = small_histogram(counts, kept_words, f"{label}: {middle}")
        reasons = [f"{printable(why)} {percent(n, total)}" for why, n in outcomes.items()][:3]
        more = [f"{kept:,} kept ({percent(kept, total)})", middle, ", ".join(reasons)]
        share = percent(total, whole)
        rows.append(TableRow(label, total, share, bar, "; ".join(filter(None, more))))
    return Table(
        "Languages",
        "language",
        rows,
        more="pairs kept, words, and the most frequent reasons",
        note="All distinct pairs, by the language that was detected. Bars: how many texts have "
        "0, 1, 2 words, and so on; more than 24 are one bar.",
    )


def copies(facts: Facts) -> str:
    """How many images have the bytes of another of the dataset, and how many look like one."""
    near = facts.funnel.near_duplicates if facts.funnel else UNSET
    shared = facts.funnel.copies if facts.funnel else facts.counts.copies
    if not facts.funnel and not facts.counts.copies.images:
        shared = UNSET  # it may be that nobody recorded hashes
    text = copies_text(shared, near)
    text = f"{text[:1].upper()}{text[1:]}." if text else ""
    if not text or not near or near.distances or not near.compared:
        return text
    return (
        f"{text} {near.images:,} have the perceptual hash of another, and {near.alike:,} of "
        f"{counted(near.compared, 'such pair')} that were compared show one image. Equal hashes "
        "find some 7 of 10 such copies."
    )
