"""Two sets side by side: their steps, histograms over each other, and what only one keeps."""

from __future__ import annotations

import base64
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise, permutations

import numpy as np
from PIL import Image as PillowImage

from alignset.pipeline.datasets.facts import Facts, find_facts
from alignset.pipeline.datasets.history import all_stages
from alignset.pipeline.datasets.kept_keys import OnlyOne, kept_keys, only_in
from alignset.pipeline.datasets.set_files import SetFiles, find_set
from alignset.pipeline.datasets.set_records import Sum
from alignset.pipeline.datasets.stored_images import stored_picture
from alignset.pipeline.report.charts import Overlay, draw_overlay
from alignset.pipeline.report.page import render
from alignset.pipeline.report.page_data import NEVER_PICTURED, NEVER_SHOWN, is_blurred, shown_fields
from alignset.pipeline.report.tables import percent
from alignset.pipeline.runs.documents import Funnel, Manifest, SourceSet, Step
from alignset.pipeline.shown_texts import counted, printable
from alignset.transforms.columns.records import KEPT, MOST_WORDS, Example
from alignset.transforms.rules.columns import OF_COLUMN
from alignset.transforms.storage.documents import DocumentError, read_document
from alignset.transforms.storage.files import write_atomically

_PICTURE_PX = 96
_MOST_REASONS = 100  # that are shown; there are some 40, but a dataset may be anybody's


@dataclass(frozen=True)
class Delta:
    """A count in both datasets. level: 0 for a step, 1 for one of its reasons."""

    name: str
    first: int
    second: int
    level: int = 0

    @property
    def change(self) -> str:
        difference = self.second - self.first
        return f"{difference:+,}" if difference else "0"


def write_comparison(first: str, second: str, path: str) -> str:
    """Writes the comparison of two datasets; returns where it is.

    Raises:
      UsageError: one of them is neither a dataset nor a folder of shards.
    """
    facts = find_facts(first), find_facts(second)
    files = find_set(first), find_set(second)
    keys = kept_keys(files[0]), kept_keys(files[1])
    both = len(np.intersect1d(*keys, assume_unique=True))
    sides = [
        only_in(files[0], keys[0], files[1], keys[1]),
        only_in(files[1], keys[1], files[0], keys[0]),
    ]
    page = render(
        "compare.html",
        names=[printable(name.rstrip("/") or name) for name in (first, second)],
        facts=facts,
        both=both,
        rules=list(rule_differences(*facts)),
        steps=list(step_deltas(*facts)),
        history=list(_history(facts)),
        charts=[(chart, draw_overlay(chart)) for chart in overlays(*facts)],
        sides=[_Side(of_files, side) for of_files, side in zip(files, sides, strict=True)],
        percent=percent,
    )
    body = page.encode("utf-8", "replace")
    write_atomically(path, lambda sink: sink.write(body))
    return path


def _history(facts: tuple[Facts, Facts]) -> Iterator[str]:
    """Notes on the datasets that both were made of."""
    for (name, one), (other_name, other) in permutations(zip("AB", facts, strict=True)):
        if was_made_of(one, other):
            yield f"{other_name} is an input of {name}."
        if has_other_input(one):
            yield (
                f"{name} was made of other datasets, and not of just what one of them kept: its "
                "funnel is of its last run alone."
            )
        elif one.funnel is not None and all_stages(one.funnel):
            yield f"{name}'s funnel counts from the first of the datasets that it was made of."


class _Side:
    """Pairs that only one dataset keeps, as the page shows them."""

    def __init__(self, files: SetFiles, side: OnlyOne) -> None:
        self.pairs, self._files = side.pairs, side.files
        self.reasons = [(printable(name), n) for name, n in side.reasons.most_common(_MOST_REASONS)]
        self.examples = [
            {"picture": "", "detail": "", "text": "", "host": ""}
            | shown_fields(example, files.catalogue)
            | {
                "picture": self._picture(files, example),
                "unsafe": is_blurred(example, files.catalogue),
            }
            for example in side.examples
            if example.reason not in NEVER_SHOWN
        ]

    def _picture(self, files: SetFiles, example: Example) -> str:
        if example.reason in NEVER_PICTURED:
            return ""
        return _picture(files, self._files[example.key], example.key)


def _picture(files: SetFiles, sidecar: str, key: str) -> str:
    """A thumbnail of a stored image in base64; empty where there is none."""
    stem = sidecar.removesuffix(".parquet")
    if stem not in files.tars:
        return ""
    picture = stored_picture(f"{stem}.tar", key, (_PICTURE_PX, _PICTURE_PX))
    if not isinstance(picture, PillowImage.Image):
        return ""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=75)
    return base64.b64encode(file.getvalue()).decode()


def rule_differences(first: Facts, second: Facts) -> Iterator[tuple[str, str, str]]:
    """The rules that the datasets do not share: name, and the value of each."""
    if first.state == "foreign" or second.state == "foreign":
        return  # which has no rules
    ours, theirs = (of_set.run.rules if of_set.run else {} for of_set in (first, second))
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            yield printable(name), _setting(first, name), _setting(second, name)


def _setting(facts: Facts, name: str) -> str:
    rules, open_values = facts.run.rules if facts.run else {}, facts.catalogue.opened
    value = rules.get(name, "–")
    if name in open_values and value == open_values[name]:
        return "off"  # where a number that nothing reaches would be read as a choice
    return printable(str(value))


def step_deltas(first: Facts, second: Facts) -> Iterator[Delta]:
    """The kept pairs of each step, and the dropped ones of each reason, over all stages."""
    both = steps_over_stages(first), steps_over_stages(second)
    ours, theirs = ({step.step: step for step in steps} for steps in both)
    starts = [max((step.seen for step in steps), default=0) for steps in both]
    yield Delta("pairs at the start", *starts)
    for name in ours | theirs:
        one, other = ours.get(name), theirs.get(name)
        yield Delta(printable(name), one.kept if one else 0, other.kept if other else 0)
        by_reason = [step.dropped if step else {} for step in (one, other)]
        for reason in by_reason[0] | by_reason[1]:
            counts = [of_step.get(reason, 0) for of_step in by_reason]
            if any(counts):
                yield Delta(printable(reason), counts[0], counts[1], 1)


def overlays(first: Facts, second: Facts) -> Iterator[Overlay]:
    """Histograms of what both keep, in the bins that both have."""
    theirs = second.catalogue.measures
    for name, measure in first.catalogue.measures.items():
        if name not in theirs or theirs[name].label != measure.label:
            continue  # rules of users may measure different things under one name
        planes = [_records_of(of_set, name) for of_set in (first, second)]
        axes = [records.axis(name) for records in planes]
        edges = sorted(set.intersection(*(set(axis.edges if axis else ()) for axis in axes)))
        if edges:
            heights = [kept_between(records, name, edges) for records in planes]
            inner = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
            labels = [f"up to {edges[0]:g}", *inner, f"from {edges[-1]:g}"]
            yield Overlay(measure.label, labels, [f"{edge:g}" for edge in (0, *edges)], *heights)
    words = [
        of_set.records.images.whole.histograms.get("words", {}).get(KEPT, {})
        for of_set in (first, second)
    ]
    if all(words):
        span = range(min(MOST_WORDS, max(int(n) for of_set in words for n in of_set)) + 1)
        heights = [[of_set.get(str(number), 0) for number in span] for of_set in words]
        labels = [counted(number, "word") for number in span]
        yield Overlay("Words of the text", labels, [str(n) for n in span], *heights)


def _records_of(facts: Facts, axis: str) -> Sum:
    """The records of an axis; input columns are judged with the texts."""
    return facts.records.texts if axis.startswith(OF_COLUMN) else facts.records.images


def kept_between(records: Sum, name: str, edges: list[float]) -> list[int]:
    """How many kept pairs are between edges of an axis, which are some of its own."""
    heights = [0] * (len(edges) + 1)
    if axis := records.axis(name):
        places = [0, *np.searchsorted(edges, axis.edges, "right").tolist()]  # behind each edge
        for place, count in records.whole.histograms.get(name, {}).get(KEPT, {}).items():
            if int(place) != axis.no_value:
                heights[places[int(place)]] += count
    return heights


_MOST_STAGES = 100  # that are looked at: a funnel may be anybody's
_PLACE = re.compile(r"history/\d+(/history/\d+)*")


def was_made_of(facts: Facts, earlier: Facts) -> bool:
    """Whether the history of a dataset has the manifest of another, as that is now."""
    if facts.funnel is None or not isinstance(earlier.run, Manifest):
        return False
    for stage in all_stages(facts.funnel)[:_MOST_STAGES]:
        if _PLACE.fullmatch(stage.folder):
            with suppress(DocumentError, OSError):
                path = f"{facts.out}/{stage.folder}/manifest.json"
                if read_document(path, Manifest) == earlier.run:
                    return True
    return False


def steps_over_stages(facts: Facts) -> list[Step]:
    """The funnel from the first set on, where each dataset was made of all that one other kept and
    of nothing else; the dataset's own funnel otherwise, as where rejected pairs were read again."""
    chain = [] if facts.funnel is None else _chain(facts.funnel)
    return _sum_up([*chain, facts.steps]) if chain else facts.steps


def has_other_input(facts: Facts) -> bool:
    """Whether a dataset was made of sets, and its funnel over all of them cannot be told."""
    return facts.funnel is not None and bool(all_stages(facts.funnel)) and not _chain(facts.funnel)


def _chain(funnel: Funnel) -> list[Sequence[Step]]:
    """Funnels from the first dataset to this one; empty where they are not a chain."""
    history = funnel.history or []
    steps: Sequence[Step] = funnel.steps
    chain: list[Sequence[Step]] = []
    while history:
        if len(history) > 1 or not _follows(steps, history[0]):
            return []
        steps, history = history[0].steps, history[0].history
        chain.append(steps)
    return chain[::-1]


def _follows(steps: Sequence[Step], stage: SourceSet) -> bool:
    return bool(steps) and bool(stage.steps) and steps[0].seen == stage.pairs


def _sum_up(chain: Sequence[Sequence[Step]]) -> list[Step]:
    """One funnel of several; each sees what the one before has kept."""
    by_step: dict[str, Counter[str]] = {}
    for steps in (chain[-1], *chain[:-1]):  # in the order of the last one's steps
        for step in steps:
            by_step.setdefault(step.step, Counter()).update(step.dropped)
    seen, table = chain[0][0].seen, []
    for name, reasons in by_step.items():
        kept = seen - reasons.total()
        table.append(Step(name, seen, kept, dict(reasons)))
        seen = kept
    return table
