"""The report as one HTML file that opens offline."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from markupsafe import Markup

from alignset.pipeline.datasets.facts import Facts, find_facts
from alignset.pipeline.datasets.history import all_stages
from alignset.pipeline.datasets.numbers import PairCounts, images_at
from alignset.pipeline.datasets.sizes_and_days import files_in
from alignset.pipeline.report import tables
from alignset.pipeline.report.charts import Chart, draw, size_of
from alignset.pipeline.report.histograms import charts_of
from alignset.pipeline.report.page_data import encode_for_page, page_data, small_picture
from alignset.pipeline.report.render import render
from alignset.pipeline.report.sliders import answers, command, command_note, near_lists, sliders
from alignset.pipeline.shown_texts import printable
from alignset.transforms.columns.records import KEPT
from alignset.transforms.rules.given import FETCH_FAILED
from alignset.transforms.rules.rule import IMAGES
from alignset.transforms.storage.files import write_atomically

REPORT = "report.html"
_BARS, _LEAST_S = 40, 60.0  # of the chart of times: at most, and of a run that has one


class Drawn(NamedTuple):
    """A chart, and how it is drawn."""

    chart: Chart
    svg: Markup


def write_report(out: str, path: str = "", counts: PairCounts | None = None) -> str:
    """Writes the report of a dataset; returns where it is.

    Args:
      path: where it goes; "" for the dataset's folder, or of another tool's folder for here.
      counts: of the dataset, where they are known.

    Raises:
      UsageError: there is no such dataset.
    """
    facts = find_facts(out, counts)
    is_inside = not path and facts.state != "foreign"
    path = path or (f"{facts.out}/{REPORT}" if is_inside else REPORT)
    page = render_page(facts, "" if is_inside else out).encode("utf-8", "replace")
    write_atomically(path, lambda sink: sink.write(page))
    return path


def render_page(facts: Facts, place: str = "") -> str:
    """The whole page.

    Args:
      place: where the dataset is; empty where the page lies in its folder. Such a page tells no
        path, finds the folder by its own address, and is the same wherever the dataset lies.
    """
    data = page_data(facts) | {"out": printable(place), "command": command(facts)}
    failing = tables.failing_host_rows(facts)
    steps = tables.funnel_table(facts, data["lists"])
    dropping = [step for step in steps if step.reasons] or steps[:1]
    other_files, hashes_note = tables.other_file_rows(facts)
    hosts = tables.host_rows(facts)
    frequent, kept_texts = facts.numbers.frequent_texts, facts.numbers.kept_texts
    frequent_texts = tables.text_rows(frequent, "d")
    repeated_texts = tables.text_rows(kept_texts, "k", 2)
    about = facts.run.about if facts.run else {}
    title = str((about or {}).get("title", ""))
    return render(
        "report.html",
        facts=facts,
        name=printable(title or place.rstrip("/").rpartition("/")[2]) or "Image and alt-text pairs",
        figures=list(_figures(facts)),
        answers=answers(facts, failing, data["lists"]),
        steps=dropping,
        idle=[step.name for step in steps if step not in dropping],
        stages=all_stages(facts.funnel) if facts.funnel else [],
        sliders=list(sliders(facts)),
        command_note=command_note(facts),
        charts=[Drawn(chart, draw(chart)) for chart in charts_of(facts)],
        hosts=hosts,
        hosts_note=tables.tally_note(facts.numbers.hosts, "hosts", len(hosts)),
        failing=failing,
        fetches=tables.detail_rows(facts.details.get((IMAGES, FETCH_FAILED), {})),
        opt_outs=tables.opt_out_rows(facts),
        blocked=tables.blocked_rows(facts),
        other_files=other_files,
        hashes_note=hashes_note,
        left_out=data.pop("left_out"),
        sampled=len(data["lists"].get(KEPT, [])),
        languages=tables.language_rows(facts),
        found_languages=tables.found_language_rows(facts),
        frequent_texts=frequent_texts,
        frequent_note=tables.tally_note(frequent, "texts", len(frequent_texts)),
        kept_texts=repeated_texts,
        kept_note=tables.tally_note(kept_texts, "texts", len(repeated_texts)),
        copies=tables.copies(facts),
        copy_groups=list(_copy_groups(facts)),
        times=[Drawn(chart, draw(chart)) for chart in _times_chart(facts)],
        near=near_lists(facts, data["lists"]),
        axes={axis: of.short for axis, of in facts.catalogue.measures.items()},
        data=Markup(encode_for_page(data)),
    )


def _figures(facts: Facts) -> Iterator[tuple[str, str, str]]:
    judged_pairs = facts.seen - facts.waiting
    of = "of those judged" if facts.waiting else "of all"
    yield "Pairs kept", f"{facts.kept:,}", f"{tables.percent(facts.kept, judged_pairs)} {of}"
    yield "Pairs at the start", f"{facts.seen:,}", ""
    if facts.text_only:
        return
    of_planned = f"of {facts.planned_shards:,}" if facts.planned_shards != facts.shards else ""
    yield "Shards", f"{facts.shards:,}", of_planned
    fetch = next((step for step in facts.steps if step.step == "fetch"), None)
    if fetch and fetch.seen:
        failures = fetch.seen - fetch.kept
        share = tables.percent(fetch.kept, fetch.seen)
        yield "Pairs fetched", f"{fetch.kept:,}", f"{share}; {failures:,} failed"
    if size := sum(of.bytes_downloaded for of in facts.stats.values() if of):
        yield "Bytes of images", size_of(size), "as they were fetched"
    if facts.waiting:
        yield "Waiting", f"{facts.waiting:,}", "pairs of shards to come"
    if hosts := sum(map(bool, facts.numbers.hosts.counts())):
        yield "Hosts", f"{hosts:,}" + ("+" if facts.numbers.hosts.others else ""), ""


def _copy_groups(facts: Facts) -> Iterator[tuple[int, bytes]]:
    """The largest groups of images with the same bytes: how many, and a thumbnail, or none."""
    groups = facts.counts.groups
    images = images_at(facts.out, [(of.shard, of.key) for of in groups], facts.files)
    for of in groups:
        yield of.images, small_picture(images.get((of.shard, of.key), b""))


def _times_chart(facts: Facts) -> Iterator[Chart]:
    """How fetching went over time: the pairs of the shards that ended in each part of the run's
    time, if it took a while. By when their stats were written, since shards hold no clock."""
    ended_at = {
        f"{facts.out}/{folder}/{file.name}": file.written_at
        for folder in ("shards", "holdout")
        for file in (files_in(f"{facts.out}/{folder}") if facts.state != "foreign" else ())
        if file.written_at
    }
    times = {path: at for path, at in ended_at.items() if facts.stats.get(path)}
    if len(times) < 2:
        return
    first, last = min(times.values()), max(times.values())
    if last - first < _LEAST_S:
        return
    bars = min(_BARS, len(times))
    pairs, failures = [0] * bars, [0] * bars
    for path, at in times.items():
        place = min(bars - 1, int(bars * (at - first) / (last - first)))
        if of := facts.stats[path]:
            pairs[place] += of.count - of.failed_to_download
            failures[place] += of.failed_to_download
    starts = [first + (last - first) * place / bars for place in range(bars)]
    form = "%d %b %H:%M" if last - first > 86_400 else "%H:%M"
    labels = [datetime.fromtimestamp(at, UTC).strftime(form) for at in starts]
    yield Chart(
        "Fetches by when their shard ended, UTC",
        labels,
        labels,
        pairs,
        failures,
        note="A shard counts where its _stats.json was written; blue were fetched, orange failed.",
    )
