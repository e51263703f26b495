"""The report as one HTML file that opens offline: nothing in it is loaded from anywhere."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import shlex
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from pipeline.look.plain_text import printable
from pipeline.report import tables
from pipeline.report.charts import Chart, draw
from pipeline.report.facts import Facts, needs_holdout
from pipeline.report.fetch_times import times_chart
from pipeline.report.histograms import IMAGE_RULES, charts_of
from pipeline.report.history import all_stages
from pipeline.report.page_data import encode_for_page, page_data
from pipeline.rules import Rules
from transforms.columns.reasons import FETCH_FAILED
from transforms.columns.records import Top

_FOLDER = Path(__file__).parent / "page"
_TEXT_SLIDERS = ("min_words", "max_words", "min_language_score")


class Drawn(NamedTuple):
    """A chart, and how it is drawn."""

    chart: Chart
    svg: Markup


class Slider(NamedTuple):
    """A rule whose threshold the reader may move.

    Fields:
      axis: of the joint histogram. edges: the thresholds that can be chosen. place: of the run's
        own. plane: images or texts.
    """

    rule: str
    name: str
    axis: str
    edges: list[float]
    place: int
    plane: str


def render_page(facts: Facts, place: str = "") -> str:
    """The whole page.

    Args:
      place: where the set is; empty where the page lies in its folder. Such a page tells no path,
        finds the folder by its own address, and is the same wherever the set lies.
    """
    data = page_data(facts) | {"out": printable(place), "command": command(facts)}
    failing = tables.failing_host_rows(facts)
    hosts, hosts_note = tables.host_rows(facts)
    images = facts.records.images.whole
    texts = facts.records.texts.whole
    frequent = texts.tops.get("frequent_texts", Top())
    kept_texts = images.tops.get("texts", Top())
    return render(
        "report.html",
        facts=facts,
        name=printable(place.rstrip("/").rpartition("/")[2]) or "Image and alt-text pairs",
        figures=list(_figures(facts)),
        answers=tables.answers(facts, failing),
        steps=tables.funnel_table(facts, data["lists"]),
        stages=all_stages(facts.funnel) if facts.funnel else [],
        sliders=list(sliders(facts)),
        charts=[Drawn(chart, draw(chart)) for chart in charts_of(facts)],
        hosts=hosts,
        hosts_note=hosts_note,
        failing=failing,
        fetches=tables.detail_rows(facts.details.get(FETCH_FAILED, {})),
        languages=tables.language_rows(facts),
        frequent_texts=tables.text_rows(frequent, "d"),
        frequent_note=tables.sampled(frequent, "texts"),
        kept_texts=tables.text_rows(kept_texts, "k", 2),
        kept_note=tables.sampled(kept_texts, "texts"),
        near_duplicates=tables.near_duplicates(facts.funnel),
        times=[Drawn(chart, draw(chart)) for chart in times_chart(facts)],
        near=near_lists(data["lists"]),
        data=Markup(encode_for_page(data)),
    )


def _figures(facts: Facts) -> Iterator[tuple[str, str, str]]:
    yield "Pairs kept", f"{facts.kept:,}", f"{tables.percent(facts.kept, facts.seen)} of all"
    yield "Pairs at the start", f"{facts.seen:,}", ""
    if facts.text_only:
        return
    done = f"of {facts.planned:,}" if facts.planned != facts.shards else ""
    yield "Shards", f"{facts.shards:,}", done
    fetch = next((step for step in facts.steps if step.step == "fetch"), None)
    if fetch and fetch.seen:
        failed = fetch.seen - fetch.kept
        share = tables.percent(fetch.kept, fetch.seen)
        yield "Images fetched", f"{fetch.kept:,}", f"{share}; {failed:,} were not"
    if facts.waiting:
        yield "Waiting", f"{facts.waiting:,}", "pairs of shards to come"
    top = facts.records.images.whole.tops.get("hosts", Top())
    if top.counts:
        yield "Hosts", f"{len(top.counts):,}" + ("+" if top.others else ""), ""


def sliders(facts: Facts) -> Iterator[Slider]:
    """The rules that another threshold can be chosen for."""
    images, texts = facts.records.images.whole.joint, facts.records.texts.whole.joint
    axes = {axis.name: axis for axis in (*images.axes, *texts.axes)}
    for rule, name in tables.RULE_NAMES.items():
        axis = axes.get(_AXES[rule])
        own = facts.rules.get(rule)
        if axis is None or own is None:
            continue
        edges = [edge - (rule == "max_words") for edge in axis.edges]
        if rule == "min_language_score":
            edges = [edge for edge in edges if edge <= own]
        if own not in edges or (rule == "max_unsafe_score" and own >= 1):
            continue
        if rule == "min_evaluation_distance" and not _was_compared(facts):
            continue
        plane = "texts" if rule in _TEXT_SLIDERS else "images"
        yield Slider(rule, name, axis.name, edges, edges.index(own), plane)


_AXES = {
    **{rule: axis for rule, (axis, _) in IMAGE_RULES.items()},
    "min_words": "words",
    "max_words": "words",
    "min_language_score": "language",
}


def _was_compared(facts: Facts) -> bool:
    joint = facts.records.images.whole.joint
    return any(
        axis.name == "distance" and bool((bins != axis.no_value).any())
        for axis, bins in zip(joint.axes, joint.bins(), strict=True)
    )


def near_lists(lists: dict[str, list[int]]) -> list[tuple[str, str, str]]:
    """The rules with examples on a side of their thresholds: the rule, and the lists of the kept
    and of the dropped, which may be empty."""
    sides: dict[str, dict[str, str]] = {}
    for name in lists:
        if name.startswith("near:"):
            rule, _, outcome = name.removeprefix("near:").partition(" ")
            sides.setdefault(rule, {})["kept" if outcome == "kept" else "dropped"] = name
    order = [rule for rule in tables.RULE_NAMES if rule in sides]
    return [(rule, sides[rule].get("kept", ""), sides[rule].get("dropped", "")) for rule in order]


def command(facts: Facts) -> str:
    """The command that makes a set of this one, which is OUT, but for the thresholds that are
    chosen."""
    defaults = {field.name: field.default for field in dataclasses.fields(Rules)}
    rules = facts.run.rules if facts.run else {}
    # The n-grams keep their verdicts by the set's own vocabulary.
    others = [
        f"--{rule}={value}"
        for rule, value in rules.items()
        if rule in defaults and value != defaults[rule] and rule != "vocabulary_size"
        if rule != "min_evaluation_distance"
    ]
    holdout = ["--holdout=" + str(facts.run.job["holdout"])] if needs_holdout(facts.run) else []  # type: ignore[union-attr]
    words = ["--input=OUT", "--output=NEW", "--vocabulary=OUT", *holdout, *others]
    return "alignset curate " + shlex.join(printable(word) for word in words)


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"number": "{:,}".format, "shown": printable}
    return made


def render(template: str, **values: Any) -> str:
    """A page of this folder, with the style, the script and the policy that allows just these."""
    style, script = (_file(name) for name in ("report.css", "report.js"))
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src '{_hash(style)}'; script-src '{_hash(script)}'"
    )
    return (
        _environment()
        .get_template(template)
        .render(style=Markup(style), script=Markup(script), policy=Markup(policy), **values)
    )


def _file(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
