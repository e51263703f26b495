"""The report as one HTML file that opens offline."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
from markupsafe import Markup

from alignset.pipeline.datasets.facts import Facts, find_facts
from alignset.pipeline.datasets.history import all_stages
from alignset.pipeline.datasets.numbers import PairCounts
from alignset.pipeline.datasets.sizes_and_days import times_in
from alignset.pipeline.report import tables
from alignset.pipeline.report.histograms import charts_of
from alignset.pipeline.report.page_data import encode_for_page, page_data, read_pictures
from alignset.pipeline.report.render import Chart, draw, render, size_of
from alignset.pipeline.report.sliders import answers, command, command_note, near_lists, sliders
from alignset.pipeline.shown_texts import printable
from alignset.transforms.columns.records import KEPT
from alignset.transforms.storage.files import write_atomically

REPORT = "report.html"
_BARS, _LEAST_S = 40, 60.0  # of the chart of times: at most, and of a run that has one


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
    groups = facts.counts.groups
    pictures = read_pictures(facts.files, [two[0] for _, _, two in groups])
    steps = tables.funnel_table(facts, data["lists"])
    dropping = [row for row in steps if row[2]] or steps[:1]
    about = facts.run.about if facts.run else {}
    title = str((about or {}).get("title", ""))
    return render(
        "report.html",
        facts=facts,
        name=printable(title or place.rstrip("/").rpartition("/")[2]) or "Image and alt-text pairs",
        fetch=next((step for step in facts.steps if step.step == "fetch" and step.seen), None),
        bytes_fetched=size_of(sum(of.bytes_downloaded for of in facts.stats.values() if of)),
        hosts=sum(map(bool, facts.numbers.hosts.totals())),
        answers=list(answers(facts, tables.failing_host_rows(facts), data["lists"])),
        steps=dropping,
        idle=[printable(row[0].step) for row in steps if row not in dropping],
        stages=all_stages(facts.funnel) if facts.funnel else [],
        sliders=list(sliders(facts)),
        command_note=command_note(facts),
        charts=charts_of(facts),
        draw=draw,
        percent=tables.percent,
        languages=tables.language_table(facts),
        set_tables=tables.set_tables(facts),
        fetch_tables=tables.fetch_tables(facts),
        left_out=data.pop("left_out"),
        sampled=len(data["lists"].get(KEPT, [])),
        copies=tables.copies(facts),
        copy_groups=[(images, pictures.get(two[0])) for images, _, two in groups],
        times=list(_times_chart(facts)),
        near=near_lists(facts, data["lists"]),
        axes={axis: of.short for axis, of in facts.catalogue.measures.items()},
        data=Markup(encode_for_page(data)),
    )


def _times_chart(facts: Facts) -> Iterator[Chart]:
    """How fetching went over time: the pairs of the shards that ended in each part of the run's
    time, if it took a while. By when their stats were written, since shards hold no clock."""
    ended = times_in(f"{facts.out}/shards") | times_in(f"{facts.out}/holdout")
    ended_at = [(ended[path], of) for path, of in facts.stats.items() if of and ended.get(path)]
    times = np.array([at for at, _ in ended_at])
    if len(times) < 2 or times.max() - times.min() < _LEAST_S:
        return
    counts = [(of.count - of.failed_to_download, of.failed_to_download) for _, of in ended_at]
    bars = min(_BARS, len(times))
    fetched, failed = (np.histogram(times, bars, weights=of)[0] for of in zip(*counts, strict=True))
    starts = np.linspace(times.min(), times.max(), bars, endpoint=False)
    form = "%d %b %H:%M" if times.max() - times.min() > 86_400 else "%H:%M"
    labels = [datetime.fromtimestamp(at, UTC).strftime(form) for at in starts]
    yield Chart(
        "Fetches by when their shard ended, UTC",
        labels,
        labels,
        fetched.astype(int).tolist(),
        failed.astype(int).tolist(),
        note="A shard counts where its _stats.json was written; blue were fetched, orange failed.",
    )
