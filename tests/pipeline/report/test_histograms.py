"""What charts tell beyond counts."""

from pathlib import Path

import numpy as np

from alignset.pipeline.datasets.facts import Facts, find_facts
from alignset.pipeline.report.histograms import charts_of
from alignset.pipeline.report.render import Chart, draw
from alignset.pipeline.runs.documents import FetchReport, Funnel
from alignset.transforms.corpus.corpus_documents import CountClass, VocabularySummary
from alignset.transforms.rules.catalogue import PRODUCT
from tests.support.made_sets import put_made_set


def ngram_chart(vocabulary: int, cut: int) -> Chart:
    by_count = [
        CountClass(max_count=high, min_count=low, ngrams=ngrams, occurrences=ngrams)
        for low, high, ngrams in ((1, 1, 50), (2, 2, 20), (3, 10, 6), (11, 100, 2))
    ]
    summary = VocabularySummary(by_count=by_count, cut_off_count=cut, vocabulary=vocabulary)
    funnel = Funnel(fetch=FetchReport(0, 0, {}, []), pairs=0, steps=[], vocabulary=summary)
    (chart,) = charts_of(Facts("", funnel=funnel))
    return chart


def test_ngrams_below_the_cut_are_dropped_and_those_within_it_in_part():
    chart = ngram_chart(vocabulary=13, cut=2)
    assert list(chart.kept) == [0, 5, 6, 2]
    assert list(chart.dropped) == [50, 15, 0, 0]
    assert "n-grams" in draw(chart)
    whole = ngram_chart(vocabulary=78, cut=0)
    assert list(whole.dropped) == [0, 0, 0, 0]
    assert whole.note.startswith("Nothing was cut off")


def test_spans_of_bars_are_the_bins(tmp_path: Path):
    """Whatever side an example has, it is within the bar that counts it."""
    put_made_set(tmp_path / "set", 1, np.random.default_rng(2), pairs=500, compared=True)
    facts = find_facts(str(tmp_path / "set"))
    charts = {chart.axis: chart for chart in charts_of(facts) if chart.axis}
    assert charts.keys() == {limit.measure.axis for limit in PRODUCT.limits.values()}
    for chart in charts.values():
        assert len(chart.spans) == len(chart.labels)
        lows, highs = zip(*chart.spans, strict=True)
        assert list(lows) == sorted(lows)
        assert all(low <= high for low, high in chart.spans)
        assert all(high <= low for high, low in zip(highs, lows[1:], strict=False))
    axis = facts.numbers.images.axes["side"]
    for side in (1, 16, 17, 199, 200, 201, 2048, 2049):
        (bar,) = [n for n, (low, high) in enumerate(charts["side"].spans) if low <= side <= high]
        assert bar == int(np.searchsorted(axis.edges, side, "left"))
