"""The report's histograms."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from msgspec import UNSET

from alignset.pipeline.datasets.facts import Facts
from alignset.pipeline.datasets.page_numbers import SHOWN_WORDS
from alignset.pipeline.report.charts import Chart, short
from alignset.pipeline.shown_texts import counted
from alignset.transforms.columns.records import Axis, Ints
from alignset.transforms.corpus.corpus_documents import VocabularySummary
from alignset.transforms.corpus.count_spread import CountSpread
from alignset.transforms.rules.popularity import MAX_IMAGES_PER_TEXT, MAX_TEXTS_PER_IMAGE
from alignset.transforms.rules.rule import IMAGES, Limit
from alignset.transforms.rules.words import WORDS

_HIGHEST = 1e12  # the end of a bin that has none


def charts_of(facts: Facts) -> list[Chart]:
    """The charts that there is something to draw of."""
    charts = [
        *_image_charts(facts),
        *_copy_charts(facts),
        *_text_charts(facts),
        *_corpus_charts(facts),
    ]
    return [chart for chart in charts if chart.total]


def _image_charts(facts: Facts) -> Iterator[Chart]:
    numbers = facts.numbers.images
    for limit in numbers.limits:
        axis = numbers.axes[limit.measure.axis]
        yield _measure_chart(facts, limit, *_shown_part(limit, axis, *numbers.heights[axis.name]))


def _copy_charts(facts: Facts) -> Iterator[Chart]:
    near = facts.funnel.near_duplicates if facts.funnel else UNSET
    if near and near.distances:
        edges = [place / len(near.distances) for place in range(1, len(near.distances))]
        note = "Cosine distance between descriptors, of the images of a cell, before any left."
        ticks = [f"{edge:g}" for edge in (0.0, *edges)]
        bars = near.distances, [0] * len(near.distances)
        name = "Distance to the nearest other image"
        yield Chart(name, _between(edges), ticks, *bars, unit="images", note=note)


def _measure_chart(facts: Facts, limit: Limit, axis: Axis, kept: Ints, dropped: Ints) -> Chart:
    measure, own = limit.measure, facts.rules.get(limit.name)
    place = axis.edges.index(own) + 1 if own in axis.edges else None
    pairs, missing = (int((kept + dropped)[part].sum()) for part in (np.s_[:-1], np.s_[-1:]))
    what = "image" if limit.plane == IMAGES else "text"
    judged = f" whose {what} these rules judged" if facts.rules else ""
    note = f"Of {counted(pairs, 'pair')}{judged}."
    return Chart(
        measure.label,
        _between(axis.edges),
        [f"{edge:g}" for edge in (measure.least, *axis.edges)],
        kept[:-1].tolist(),
        dropped[:-1].tolist(),
        [(place, f"--{limit.name}={own:g}")] if place is not None and own is not None else [],
        logarithmic=measure.logarithmic,
        note=note + (measure.missing.format(missing) if missing else ""),
        axis=axis.name,
        spans=_spans(axis, whole=measure.whole),
    )


def _shown_part(limit: Limit, axis: Axis, kept: Ints, dropped: Ints) -> tuple[Axis, Ints, Ints]:
    """The axis and its heights without an empty last bin, where a rule that is off begins it."""
    last = axis.bins - 2  # the last of all is of what has no value
    if len(axis.edges) < 2 or not limit.is_off(axis.edges[-1]) or (kept + dropped)[last]:
        return axis, kept, dropped
    heights = (np.delete(kept, last), np.delete(dropped, last))
    return Axis(axis.name, axis.edges[:-1]), *heights


def _spans(axis: Axis, *, whole: bool) -> list[tuple[float, float]]:
    """The values in each bin but the bin of none; an edge is of the bin before it."""
    step = 1.0 if whole else 0.0
    return [(low + step, high) for low, high in pairwise([0.0, *axis.edges, _HIGHEST])]


def _between(edges: Sequence[float]) -> list[str]:
    ends = [f"{edge:g}" for edge in edges]
    inner = [f"{low} to {high}" for low, high in pairwise(ends)]
    return [f"up to {ends[0]}", *inner, f"from {ends[-1]}"]


def _text_charts(facts: Facts) -> Iterator[Chart]:
    numbers = facts.numbers.texts
    for limit in {limit.measure.axis: limit for limit in numbers.limits}.values():
        axis = numbers.axes[limit.measure.axis]
        if limit.measure.dropped_only:
            yield _dropped_chart(facts, limit, axis)
        elif limit.measure is WORDS:
            yield _words_chart(facts)
        else:
            yield _measure_chart(facts, limit, axis, *numbers.heights[axis.name])


def _words_chart(facts: Facts) -> Chart:
    labels = [counted(n, "word") for n in range(SHOWN_WORDS)] + [f"{SHOWN_WORDS} words and more"]
    own = [limit for limit in facts.numbers.texts.limits if limit.name in facts.rules]
    edges = [
        (limit, limit.edge(facts.rules[limit.name])) for limit in own if limit.measure is WORDS
    ]
    kept, dropped = facts.numbers.words.tolist()
    return Chart(
        WORDS.label,
        labels,
        [str(n) for n in range(SHOWN_WORDS)] + [f"{SHOWN_WORDS}+"],
        kept,
        dropped,
        [
            (int(edge), f"--{limit.name}={limit.threshold(edge):g}")
            for limit, edge in edges
            if 0 < edge <= SHOWN_WORDS
        ],
        note="Of all distinct, well-formed pairs; what was dropped may have gone for any reason.",
        axis=WORDS.axis,
        spans=[*((n, n) for n in range(SHOWN_WORDS)), (SHOWN_WORDS, _HIGHEST)],
    )


def _dropped_chart(facts: Facts, limit: Limit, axis: Axis) -> Chart:
    heights = facts.numbers.texts.heights[axis.name].sum(axis=0)[: len(axis.edges)].tolist()
    measure, own = limit.measure, facts.rules.get(limit.name)
    end = axis.edges.index(own) if own in axis.edges else None
    return Chart(
        measure.label,
        _between(axis.edges)[: len(heights)],
        [f"{edge:g}" for edge in (measure.least, *axis.edges)][: len(heights)],
        [0] * len(heights),
        heights,
        [(end + 1, f"--{limit.name}={own:g}")] if end is not None and own else [],
        note="Scores of texts that were kept are not recorded.",
        axis=axis.name,
        spans=_spans(axis, whole=measure.whole)[: len(heights)],
    )


def _corpus_charts(facts: Facts) -> Iterator[Chart]:
    if facts.funnel is None:
        return
    for name, rule, spread in (
        ("Images that share one text", MAX_IMAGES_PER_TEXT.name, facts.funnel.images_per_text),
        ("Texts of one image", MAX_TEXTS_PER_IMAGE.name, facts.funnel.texts_per_image),
    ):
        if isinstance(spread, CountSpread) and spread.least:
            yield _spread_chart(name, rule, spread, facts.rules.get(rule))
    yield from _ngram_chart(facts.funnel.vocabulary)


def _spread_chart(name: str, rule: str, spread: CountSpread, limit: float | None) -> Chart:
    above = [limit is not None and least > limit for least in spread.least]
    place = above.index(True) if True in above else None
    what = "texts" if rule == MAX_IMAGES_PER_TEXT.name else "images"
    ends = [*spread.least[1:], 0]
    labels = [
        f"{least:,}" if end == least + 1 else f"{least:,} and more"
        for least, end in zip(spread.least, ends, strict=True)
    ]
    return Chart(
        name,
        labels,
        [short(least) for least in spread.least],
        [0 if far else n for far, n in zip(above, spread.things, strict=True)],
        [n if far else 0 for far, n in zip(above, spread.things, strict=True)],
        [(place, f"--{rule}={limit:g}")] if place is not None and limit is not None else [],
        unit=what,
        logarithmic=True,
        note="Counted over all distinct pairs in the wanted language, before any other rule. Both "
        "scales are logarithmic.",
    )


def _ngram_chart(vocabulary: VocabularySummary) -> Iterator[Chart]:
    by_count = vocabulary.by_count
    if not isinstance(by_count, list) or not by_count:
        return
    labels = [
        f"occur {bin_.min_count:,}"
        + ("" if bin_.max_count == bin_.min_count else f" to {bin_.max_count:,}")
        for bin_ in by_count
    ]
    cut_count = vocabulary.cut_off_count if isinstance(vocabulary.cut_off_count, int) else 0
    place = next((n for n, bin_ in enumerate(by_count) if bin_.max_count >= cut_count), 0)
    room, heights = vocabulary.vocabulary, list[int]()
    for bin_ in reversed(by_count):  # the most frequent are the vocabulary's
        heights.append(min(room, bin_.ngrams))
        room -= heights[-1]
    yield Chart(
        "How often n-grams occur",
        labels,
        [short(bin_.min_count) for bin_ in by_count],
        heights[::-1],
        [bin_.ngrams - n for bin_, n in zip(by_count, reversed(heights), strict=True)],
        [(place, f"cut within {cut_count:,}")] if cut_count else [],
        unit="n-grams",
        logarithmic=True,
        note="Kept are those of the vocabulary. Both scales are logarithmic."
        if cut_count
        else "Nothing was cut off: the vocabulary has room for all of them.",
    )
