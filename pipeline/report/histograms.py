"""The report's histograms."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from msgspec import UNSET

from alignset.pipeline.datasets.facts import Facts
from alignset.pipeline.datasets.page_numbers import SHOWN_WORDS
from alignset.pipeline.report.render import Chart, short
from alignset.pipeline.shown_texts import counted
from alignset.transforms.corpus.corpus_documents import CountSpread, VocabularySummary
from alignset.transforms.rules.rule import IMAGES, TEXTS, Limit
from alignset.transforms.rules.thresholds import MAX_IMAGES_PER_TEXT, MAX_TEXTS_PER_IMAGE, WORDS

_HIGHEST = 1e12  # the end of a bin that has none


def charts_of(facts: Facts) -> list[Chart]:
    """The charts that there is something to draw of."""
    charts = [
        *_measure_charts(facts, IMAGES),
        *_copy_charts(facts),
        *_measure_charts(facts, TEXTS),
        *_corpus_charts(facts),
    ]
    return [chart for chart in charts if chart.total]


def _measure_charts(facts: Facts, stage: str) -> Iterator[Chart]:
    numbers = facts.numbers.of(stage)
    for name, axis in numbers.axes.items():
        limits = [limit for limit in numbers.limits if limit.measure.axis == name]
        measure, edges, (kept, dropped) = limits[0].measure, axis.edges, numbers.heights[name]
        if measure is WORDS:
            yield _words_chart(facts, limits)
            continue
        pairs, missing = (int((kept + dropped)[part].sum()) for part in (np.s_[:-1], np.s_[-1:]))
        what = "image" if stage == IMAGES else "text"
        judged = f" whose {what} these rules judged" if facts.rules else ""
        note = f"Of {counted(pairs, 'pair')}{judged}."
        note += measure.missing.format(missing) if missing else ""
        bins = len(edges) + 1
        if measure.dropped_only:
            bins, note = len(edges), "Scores of texts that were kept are not recorded."
        elif bins > 2 and limits[-1].is_off(edges[-1]) and not (kept + dropped)[bins - 1]:
            bins, edges = bins - 1, edges[:-1]  # an empty bin that a rule begins that is off
        step = 1.0 if measure.whole else 0.0
        yield Chart(
            measure.label,
            _label_bins(edges)[:bins],
            [f"{edge:g}" for edge in (measure.least, *edges)][:bins],
            kept[:bins].tolist(),
            dropped[:bins].tolist(),
            [
                (edges.index(own) + 1, f"--{limit.name}={own:g}")
                for limit in limits
                if (own := facts.rules.get(limit.name)) in edges and not limit.is_off(own)
            ],
            logarithmic=measure.logarithmic,
            note=note,
            axis=name,
            # An edge is of the bin before it.
            spans=[(low + step, high) for low, high in pairwise([0.0, *edges, _HIGHEST])][:bins],
        )


def _label_bins(edges: Sequence[float]) -> list[str]:
    ends = [f"{edge:g}" for edge in edges]
    inner = [f"{low} to {high}" for low, high in pairwise(ends)]
    return [f"up to {ends[0]}", *inner, f"from {ends[-1]}"]


def _words_chart(facts: Facts, limits: Sequence[Limit]) -> Chart:
    kept, dropped = facts.numbers.words.tolist()
    own = [(limit, limit.edge(facts.rules[limit.name])) for limit in limits if facts.rules]
    return Chart(
        WORDS.label,
        [counted(n, "word") for n in range(SHOWN_WORDS)] + [f"{SHOWN_WORDS} words and more"],
        [str(n) for n in range(SHOWN_WORDS)] + [f"{SHOWN_WORDS}+"],
        kept,
        dropped,
        [
            (int(edge), f"--{limit.name}={limit.threshold(edge):g}")
            for limit, edge in own
            if 0 < edge <= SHOWN_WORDS
        ],
        note="All distinct, well-formed pairs; a dropped pair may have any reason.",
        axis=WORDS.axis,
        spans=[*((n, n) for n in range(SHOWN_WORDS)), (SHOWN_WORDS, _HIGHEST)],
    )


def _copy_charts(facts: Facts) -> Iterator[Chart]:
    near = facts.funnel.near_duplicates if facts.funnel else UNSET
    if near and near.distances:
        edges = [place / len(near.distances) for place in range(1, len(near.distances))]
        yield Chart(
            "Distance to the nearest other image",
            _label_bins(edges),
            [f"{edge:g}" for edge in (0.0, *edges)],
            near.distances,
            [0] * len(near.distances),
            unit="images",
            note="Cosine distance between descriptors, of the images of a cell, before any left.",
        )


def _corpus_charts(facts: Facts) -> Iterator[Chart]:
    if facts.funnel is None:
        return
    for name, unit, rule, spread in (
        ("Images that share one text", "texts", MAX_IMAGES_PER_TEXT, facts.funnel.images_per_text),
        ("Texts of one image", "images", MAX_TEXTS_PER_IMAGE, facts.funnel.texts_per_image),
    ):
        if isinstance(spread, CountSpread) and spread.least:
            own = facts.rules.get(rule.name, math.inf)
            place = sum(least <= own for least in spread.least)
            nothing = [0] * len(spread.least)
            ends = [*spread.least[1:], 0]
            yield Chart(
                name,
                [
                    f"{least:,}" if end == least + 1 else f"{least:,} and more"
                    for least, end in zip(spread.least, ends, strict=True)
                ],
                [short(least) for least in spread.least],
                [*spread.things[:place], *nothing[place:]],
                [*nothing[:place], *spread.things[place:]],
                [(place, f"--{rule.name}={own:g}")] if place < len(nothing) else [],
                unit=unit,
                logarithmic=True,
                note="Counted over all distinct pairs in the wanted language, before any other "
                "rule. Both scales are logarithmic.",
            )
    yield from _ngram_chart(facts.funnel.vocabulary)


def _ngram_chart(vocabulary: VocabularySummary) -> Iterator[Chart]:
    by_count = vocabulary.by_count
    if not isinstance(by_count, list) or not by_count:
        return
    labels = [
        f"occur {of.min_count:,}" + f" to {of.max_count:,}" * (of.max_count > of.min_count)
        for of in by_count
    ]
    cut_count = vocabulary.cut_off_count if isinstance(vocabulary.cut_off_count, int) else 0
    place = next((n for n, of in enumerate(by_count) if of.max_count >= cut_count), 0)
    ngrams = np.array([of.ngrams for of in by_count])
    more = ngrams[::-1].cumsum()[::-1] - ngrams  # that are more frequent, and come first
    kept = np.clip(vocabulary.vocabulary - more, 0, ngrams)
    yield Chart(
        "How often n-grams occur",
        labels,
        [short(of.min_count) for of in by_count],
        kept.tolist(),
        (ngrams - kept).tolist(),
        [(place, f"cut within {cut_count:,}")] if cut_count else [],
        unit="n-grams",
        logarithmic=True,
        note="Kept n-grams are in the vocabulary. Both scales are logarithmic."
        if cut_count
        else "Nothing was cut off: the vocabulary has room for all of them.",
    )
