"""The report's histograms, out of what the shards recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np

from alignset.pipeline.datasets.facts import Facts
from alignset.pipeline.datasets.plain_text import printable
from alignset.pipeline.report.charts import Chart, short, size_of
from alignset.pipeline.shown_texts import counted
from alignset.transforms.columns.records import KEPT, MOST_WORDS, Axis, Ints, Joint
from alignset.transforms.corpus.corpus_documents import VocabularySummary
from alignset.transforms.corpus.count_spread import CountSpread
from alignset.transforms.rules.catalogue import OF_IMAGES, OF_TEXTS, limits, measures
from alignset.transforms.rules.popularity import MAX_IMAGES_PER_TEXT, MAX_TEXTS_PER_IMAGE
from alignset.transforms.rules.rule import Measure

_LIMIT_OF = {limit.measure.axis: limit for limit in limits(OF_IMAGES)}
_SHOWN_WORDS = 30
_HIGHEST = 1e12  # the end of a bin that has none


def charts_of(facts: Facts) -> list[Chart]:
    """The charts that there is something to draw of."""
    charts = [
        *_image_charts(facts),
        *_text_charts(facts),
        *_corpus_charts(facts),
        *_file_charts(facts),
    ]
    return [chart for chart in charts if chart.total]


def passes(axis: Axis, bins: Ints, edge: float, beyond: bool) -> np.ndarray:
    """Which bins a rule keeps whose threshold is an edge; what has no value is kept."""
    if edge not in axis.edges:
        return np.ones(len(bins), np.bool_)
    place = axis.edges.index(edge)
    kept = bins > place if beyond else bins <= place
    return kept | (bins == axis.no_value)


def image_verdicts(joint: Joint, rules: Mapping[str, float]) -> np.ndarray:
    """Which cells of an images' joint histogram are kept: bool[cells]."""
    kept = np.ones(len(joint.cells), np.bool_)
    axes = {axis.name: (axis, bins) for axis, bins in zip(joint.axes, joint.bins(), strict=True)}
    for limit in limits(OF_IMAGES):
        if limit.measure.axis in axes and limit.name in rules:
            edge = limit.edge(rules[limit.name])
            kept &= passes(*axes[limit.measure.axis], edge, limit.beyond)
    return kept


def _image_charts(facts: Facts) -> Iterator[Chart]:
    joint = facts.records.images.whole.joint
    if not joint.axes:
        return
    kept, counts = image_verdicts(joint, facts.rules), np.array(joint.counts, np.int64)
    for axis, bins in zip(joint.axes, joint.bins(), strict=True):
        limit = _LIMIT_OF[axis.name]
        measure = limit.measure
        known = bins != axis.no_value
        if not known.any():
            continue
        heights = [
            np.bincount(bins[known & side], counts[known & side], len(axis.edges) + 1)
            for side in (kept, ~kept)
        ]
        own = facts.rules.get(limit.name)
        place = axis.edges.index(own) + 1 if own in axis.edges else None
        labels = _between(axis.edges)
        missing = int(counts[~known].sum())
        note = f"Of {counted(int(counts[known].sum()), 'pair')} whose image these rules judged."
        if missing:
            note += measure.missing.format(missing)
        yield Chart(
            measure.label,
            labels,
            [f"{edge:g}" for edge in (measure.least, *axis.edges)],
            heights[0].astype(int).tolist(),
            heights[1].astype(int).tolist(),
            [(place, f"--{limit.name}={own:g}")] if place is not None and own is not None else [],
            logarithmic=measure.logarithmic,
            note=note,
            axis=axis.name,
            spans=_spans(axis, whole=measure.whole),
        )


def _spans(axis: Axis, *, whole: bool) -> list[tuple[float, float]]:
    """The values in each bin but that of none; an edge is of the bin before it."""
    step = 1.0 if whole else 0.0
    return [(low + step, high) for low, high in pairwise([0.0, *axis.edges, _HIGHEST])]


def _between(edges: Sequence[float]) -> list[str]:
    ends = [f"{edge:g}" for edge in edges]
    inner = [f"{low} to {high}" for low, high in pairwise(ends)]
    return [f"up to {ends[0]}", *inner, f"from {ends[-1]}"]


def text_counts(facts: Facts, name: str, *, kept: bool = False) -> dict[int, int]:
    """How many distinct, well-formed pairs are in each bin of an axis of the text plane.

    Args:
      kept: only those that passed all rules of texts: in them a rare token was looked for in vain.
    """
    joint = facts.records.texts.whole.joint
    counts = np.array(joint.counts, np.int64)
    if kept and joint.axes:
        counts = np.where(joint.bins()[-1] == 0, counts, 0)
    for axis, bins in zip(joint.axes, joint.bins(), strict=True):
        if axis.name == name:
            totals = np.bincount(bins, counts, axis.bins).astype(int)
            return {place: int(n) for place, n in enumerate(totals.tolist()) if n}
    return {}


def _words(facts: Facts, axis: Axis, *, kept: bool = False) -> Ints:
    """int64[_SHOWN_WORDS + 1], pairs by their words, by the text plane."""
    heights = np.zeros(_SHOWN_WORDS + 1, np.int64)
    for place, count in text_counts(facts, axis.name, kept=kept).items():
        least = int(axis.edges[place - 1]) if place else 0
        heights[min(least, _SHOWN_WORDS)] += count
    return heights


def _text_charts(facts: Facts) -> Iterator[Chart]:
    axes = {axis.name: axis for axis in facts.records.texts.whole.joint.axes}
    for measure in measures(OF_TEXTS):
        if measure.axis in axes:
            chart = _dropped_chart if measure.dropped_only else _whole_chart
            yield chart(facts, measure, axes[measure.axis])


def _whole_chart(facts: Facts, measure: Measure, axis: Axis) -> Chart:
    of_all, passed = (_words(facts, axis, kept=kept) for kept in (False, True))
    kept, waiting = passed, np.zeros_like(passed)
    if not facts.text_only:
        of_images = facts.records.images.whole.histograms.get("words", {})
        kept = _shown_words({KEPT: of_images.get(KEPT, {})})
        if facts.waiting:
            waiting = np.maximum(0, passed - _shown_words(of_images))
    labels = [counted(n, "word") for n in range(_SHOWN_WORDS)] + [f"{_SHOWN_WORDS} words and more"]
    own = [limit for limit in limits(OF_TEXTS) if limit.measure is measure]
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
            if 0 < edge <= _SHOWN_WORDS
        ],
        note="Of all distinct, well-formed pairs; what was dropped may have gone for any reason.",
        waiting=waiting.tolist(),
        axis=measure.axis,
        spans=[*((n, n) for n in range(_SHOWN_WORDS)), (_SHOWN_WORDS, _HIGHEST)],
    )


def _shown_words(by_outcome: Mapping[str, Mapping[str, int]]) -> Ints:
    """int64[_SHOWN_WORDS + 1], pairs by their words, by the image plane."""
    heights = np.zeros(_SHOWN_WORDS + 1, np.int64)
    for counts in by_outcome.values():
        for number, count in counts.items():
            heights[min(int(number), _SHOWN_WORDS, MOST_WORDS)] += count
    return heights


def _dropped_chart(facts: Facts, measure: Measure, axis: Axis) -> Chart:
    heights = [0] * len(axis.edges)
    for bin_, count in text_counts(facts, axis.name).items():
        if bin_ < len(axis.edges):
            heights[bin_] += count
    (limit,) = (limit for limit in limits(OF_TEXTS) if limit.measure is measure)
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
    cut = vocabulary.cut_off_count if isinstance(vocabulary.cut_off_count, int) else 0
    place = next((n for n, bin_ in enumerate(by_count) if bin_.max_count >= cut), 0)
    left, kept = vocabulary.vocabulary, list[int]()
    for bin_ in reversed(by_count):  # the most frequent are the vocabulary's
        kept.append(min(left, bin_.ngrams))
        left -= kept[-1]
    yield Chart(
        "How often n-grams occur",
        labels,
        [short(bin_.min_count) for bin_ in by_count],
        kept[::-1],
        [bin_.ngrams - n for bin_, n in zip(by_count, reversed(kept), strict=True)],
        [(place, f"cut within {cut:,}")] if cut else [],
        unit="n-grams",
        logarithmic=True,
        note="Kept are those of the vocabulary. Both scales are logarithmic."
        if cut
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
        key=lambda name: -sum(counts.get(name, 0) for counts in formats.values()),
    )[:8]
    shown = [printable(name) for name in names]
    yield Chart(
        "Format of the file",
        shown,
        shown,
        [formats.get(KEPT, {}).get(name, 0) for name in names],
        [sum(c.get(name, 0) for out, c in formats.items() if out != KEPT) for name in names],
    )
