"""The report as one HTML file that opens offline."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from markupsafe import Markup

from alignset.pipeline.datasets.facts import Facts, find_facts
from alignset.pipeline.datasets.history import all_stages
from alignset.pipeline.datasets.sizes_and_days import files_in
from alignset.pipeline.report import tables
from alignset.pipeline.report.charts import Chart, draw, size_of
from alignset.pipeline.report.histograms import charts_of
from alignset.pipeline.report.page_data import encode_for_page, page_data
from alignset.pipeline.report.render import render
from alignset.pipeline.report.sliders import answers, command, command_note, near_lists, sliders
from alignset.pipeline.shown_texts import printable
from alignset.transforms.columns.records import KEPT, Top
from alignset.transforms.rules.given import FETCH_FAILED
from alignset.transforms.rules.rule import IMAGES
from alignset.transforms.storage.files import write_atomically

REPORT = "report.html"
_BARS, _LEAST_S = 40, 60.0  # of the chart of times: at most, and of a run that has one
_OF_BYTES = {"bytes": "bytes of the file"}


class Drawn(NamedTuple):
    """A chart, and how it is drawn."""

    chart: Chart
    svg: Markup


def write_report(out: str, path: str = "") -> str:
    """Writes the report of a dataset; returns where it is.

    Args:
      path: where it goes; where it is empty, into the dataset's folder, or of a folder of another
        tool into the current one.

    Raises:
      UsageError: there is no such dataset.
    """
    facts = find_facts(out)
    is_foreign = facts.state == "foreign"
    place = out if path or is_foreign else ""
    path = path or (REPORT if is_foreign else f"{out.rstrip('/')}/{REPORT}")
    page = render_page(facts, place).encode("utf-8", "replace")
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
    hosts, hosts_note = tables.host_rows(facts)
    other_files, hashes_note = tables.other_file_rows(facts)
    frequent = facts.records.texts.whole.tops.get("frequent_texts", Top())
    kept_texts = facts.records.images.whole.tops.get("texts", Top())
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
        hosts_note=hosts_note,
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
        frequent_texts=tables.text_rows(frequent, "d"),
        frequent_note=tables.sample_note(frequent, "texts"),
        kept_texts=tables.text_rows(kept_texts, "k", 2),
        kept_note=tables.sample_note(kept_texts, "texts"),
        copies=tables.copies(facts),
        copy_groups=facts.copy_groups,
        times=[Drawn(chart, draw(chart)) for chart in _times_chart(facts)],
        near=near_lists(facts, data["lists"]),
        axes={axis: of.short for axis, of in facts.catalogue.measures.items()} | _OF_BYTES,
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
    if facts.records.images.whole.bytes:
        yield "Bytes of images", size_of(facts.records.images.whole.bytes), "as they were fetched"
    if facts.waiting:
        yield "Waiting", f"{facts.waiting:,}", "pairs of shards to come"
    top = facts.records.images.whole.tops.get("hosts", Top())
    if top.counts:
        yield "Hosts", f"{len(top.counts):,}" + ("+" if top.others else ""), ""


def _times_chart(facts: Facts) -> Iterator[Chart]:
    """How fetching went over time: the pairs of the shards that ended in each part of the run's
    time, if it took a while. By when their stats were written, since shards hold no clock."""
    end_times = {} if facts.state == "foreign" else dict(_end_times(facts))
    times = {shard: at for shard, at in end_times.items() if shard in facts.records.fetches}
    if len(times) < 2:
        return
    first, last = min(times.values()), max(times.values())
    if last - first < _LEAST_S:
        return
    bars = min(_BARS, len(times))
    pairs, failures = [0] * bars, [0] * bars
    for shard, at in times.items():
        place = min(bars - 1, int(bars * (at - first) / (last - first)))
        tries, losses = facts.records.fetches[shard]
        pairs[place] += tries - losses
        failures[place] += losses
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


def _end_times(facts: Facts) -> Iterator[tuple[str, float]]:
    for folder, kind in (("shards", "images"), ("holdout", "holdout")):
        for file in files_in(f"{facts.out}/{folder}"):
            if file.name.endswith("_stats.json") and file.written_at:
                yield f"{kind}-{file.name.removesuffix('_stats.json')}", file.written_at
