"""The report's histograms, out of what the shards recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
from msgspec import UNSET

from alignset.pipeline.datasets.facts import Facts
from alignset.pipeline.datasets.set_records import Sum
from alignset.pipeline.report.charts import Chart, short, size_of
from alignset.pipeline.shown_texts import counted, printable
from alignset.transforms.columns.records import KEPT, MOST_WORDS, Axis, Ints
from alignset.transforms.corpus.corpus_documents import VocabularySummary
from alignset.transforms.corpus.count_spread import CountSpread
from alignset.transforms.rules.catalogue import limits
from alignset.transforms.rules.popularity import MAX_IMAGES_PER_TEXT, MAX_TEXTS_PER_IMAGE
from alignset.transforms.rules.rule import IMAGES, Limit, Measure
from alignset.transforms.rules.words import WORDS

_SHOWN_WORDS = 30
_HIGHEST = 1e12  # the end of a bin that has none


def charts_of(facts: Facts) -> list[Chart]:
    """The charts that there is something to draw of."""
    charts = [
        *_image_charts(facts),
        *_copy_charts(facts),
        *_text_charts(facts),
        *_corpus_charts(facts),
        *_file_charts(facts),
    ]
    return [chart for chart in charts if chart.total]


def _heights(records: Sum, axis: Axis) -> tuple[Ints, Ints]:
    """int64[bins] kept, and dropped for any reason, by the bins of an axis."""
    heights = np.zeros((2, axis.bins), np.int64)
    for outcome, counts in records.whole.histograms.get(axis.name, {}).items():
        for place, count in counts.items():
            heights[int(outcome != KEPT), int(place)] += count
    return heights[0], heights[1]


def _image_charts(facts: Facts) -> Iterator[Chart]:
    records = facts.records.images
    for limit in limits(facts.catalogue.images):
        axis = records.axis(limit.measure.axis)
        if axis is not None:
            yield _measure_chart(facts, limit, *_shown_part(limit, axis, *_heights(records, axis)))


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


def _words(axis: Axis, heights: Ints) -> Ints:
    """int64[_SHOWN_WORDS + 1], pairs by their words, out of the bins of the text stage."""
    bars = np.zeros(_SHOWN_WORDS + 1, np.int64)
    for place, count in enumerate(heights[: axis.no_value].tolist()):
        least = int(axis.edges[place - 1]) if place else 0
        bars[min(least, _SHOWN_WORDS)] += count
    return bars


def _text_charts(facts: Facts) -> Iterator[Chart]:
    records = facts.records.texts
    for limit in {limit.measure.axis: limit for limit in limits(facts.catalogue.texts)}.values():
        axis = records.axis(limit.measure.axis)
        if axis is None:
            if limit.measure is WORDS and not records.records:
                yield _whole_chart(facts, WORDS)  # a folder's texts, which no rule has judged
            continue
        heights = _heights(records, axis)
        if limit.measure.dropped_only:
            yield _dropped_chart(facts, limit.measure, axis)
        elif limit.measure.whole:
            yield _whole_chart(facts, limit.measure, axis)
        else:
            yield _measure_chart(facts, limit, axis, *heights)


def _whole_chart(facts: Facts, measure: Measure, axis: Axis | None = None) -> Chart:
    of_images = facts.records.images.whole.histograms.get("words", {})
    of_all = of_texts = _shown_words(of_images)
    if axis is not None:
        of_kept, dropped = _heights(facts.records.texts, axis)
        of_all, of_texts = _words(axis, of_kept + dropped), _words(axis, of_kept)
    kept, waiting = of_texts, np.zeros_like(of_texts)
    if not facts.text_only:
        kept = _shown_words({KEPT: of_images.get(KEPT, {})})
        if facts.waiting:
            waiting = np.maximum(0, of_texts - _shown_words(of_images))
    labels = [counted(n, "word") for n in range(_SHOWN_WORDS)] + [f"{_SHOWN_WORDS} words and more"]
    own = [limit for limit in limits(facts.catalogue.texts) if limit.measure is measure]
    edges = [(limit, limit.edge(facts.rules.get(limit.name, 0))) for limit in own]
    return Chart(
        measure.label,
        labels,
        [str(n) for n in range(_SHOWN_WORDS)] + [f"{_SHOWN_WORDS}+"],
        kept.tolist(),
        np.maximum(0, of_all - kept - waiting).tolist(),
        [
            (int(edge), f"--{limit.name}={limit.threshold(edge):g}")
            for limit, edge in edges
            if limit.name in facts.rules and 0 < edge <= _SHOWN_WORDS
        ],
        note="Of all distinct, well-formed pairs; what was dropped may have gone for any reason.",
        waiting=waiting.tolist(),
        axis=measure.axis,
        spans=[*((n, n) for n in range(_SHOWN_WORDS)), (_SHOWN_WORDS, _HIGHEST)],
    )


def _shown_words(by_outcome: Mapping[str, Mapping[str, int]]) -> Ints:
    """int64[_SHOWN_WORDS + 1], pairs by their words, by the image stage."""
    heights = np.zeros(_SHOWN_WORDS + 1, np.int64)
    for counts in by_outcome.values():
        for number, count in counts.items():
            heights[min(int(number), _SHOWN_WORDS, MOST_WORDS)] += count
    return heights


def _dropped_chart(facts: Facts, measure: Measure, axis: Axis) -> Chart:
    heights = np.add(*_heights(facts.records.texts, axis))[: len(axis.edges)].tolist()
    (limit,) = (limit for limit in limits(facts.catalogue.texts) if limit.measure is measure)
    own = facts.rules.get(limit.name)
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


def _file_charts(facts: Facts) -> Iterator[Chart]:
    histograms = facts.records.images.whole.histograms
    of_bytes = histograms.get("bytes", {})
    places = sorted({int(place) for counts in of_bytes.values() for place in counts})
    if places:
        span = range(places[0], places[-1] + 1)
        labels = [f"{size_of(1 << max(0, n - 1))} to {size_of(1 << n)}" for n in span]
        yield Chart(
            "Size of the file",
            labels,
            [size_of(1 << max(0, n - 1)) for n in span],
            [of_bytes.get(KEPT, {}).get(str(n), 0) for n in span],
            [
                sum(counts.get(str(n), 0) for name, counts in of_bytes.items() if name != KEPT)
                for n in span
            ],
            axis="bytes",
            spans=[(1 << max(0, n - 1), (1 << n) - 1) for n in span],
        )
    formats = histograms.get("formats", {})
    names = sorted(
        {name for counts in formats.values() for name in counts},
        key=lambda name: (-sum(counts.get(name, 0) for counts in formats.values()), name),
    )[:8]
    ticks = [printable(name) for name in names]
    yield Chart(
        "Format of the file",
        ticks,
        ticks,
        [formats.get(KEPT, {}).get(name, 0) for name in names],
        [sum(c.get(name, 0) for out, c in formats.items() if out != KEPT) for name in names],
    )
