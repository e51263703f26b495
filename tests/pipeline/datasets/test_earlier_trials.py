"""A report of a dataset that version 1 of the records was written for: with the data that it
has."""

from pathlib import Path

import numpy as np
import pytest

from alignset.pipeline.datasets.facts import Facts, find_facts
from alignset.pipeline.report.histograms import charts_of
from alignset.pipeline.report.page import render_page
from alignset.pipeline.report.sliders import sliders
from alignset.transforms.rules.catalogue import PRODUCT

EARLIER = Path(__file__).with_name("earlier_set")  # the golden set, as it was recorded then


@pytest.fixture(scope="module")
def facts() -> Facts:
    return find_facts(str(EARLIER))


# The counts are those of the program that wrote the dataset.
@pytest.mark.parametrize(
    ("rule", "threshold", "kept"),
    [
        ("min_image_side", 100.0, 158),
        ("min_image_side", 48.0, 159),
        ("min_image_side", 208.0, 0),
        ("max_image_aspect", 1.5, 157),
        ("min_words", 3.0, 187),
        ("min_words", 2.0, 188),
        ("min_words", 5.0, 184),
        ("max_words", 10.0, 185),
    ],
)
def test_one_threshold_keeps_as_many_as_it_did(
    facts: Facts, rule: str, threshold: float, kept: int
) -> None:
    limit = PRODUCT.limits[rule]
    records = facts.records.of(limit.plane)
    axis = records.axis(limit.measure.axis)
    counts = {int(place): n for place, n in records.whole.alone[rule].items()}
    passed = axis.passes(np.array([*counts]), limit.edge(threshold), beyond=limit.beyond)
    assert np.array([*counts.values()])[passed].sum() == kept


def test_several_thresholds_keep_as_many_as_they_did(facts: Facts) -> None:
    records = facts.records.images
    sample, passed = records.whole.sample, np.True_
    assert sample.is_all
    rules = facts.rules | {"min_image_side": 48.0, "max_image_aspect": 10.0}
    for limit in PRODUCT.limits.values():
        if limit.measure.axis in sample.bins:
            bins = np.frombuffer(sample.bins[limit.measure.axis], np.uint8)
            edge = limit.edge(rules[limit.name])
            axis = records.axis(limit.measure.axis)
            passed = passed & axis.passes(bins, edge, beyond=limit.beyond)
    assert np.array(sample.weights)[passed].sum() == 161


def test_the_page_has_all_sliders_charts_and_examples(facts: Facts) -> None:
    assert facts.records.broken == []
    assert [slider.rule for slider in sliders(facts)] == [*PRODUCT.limits]
    charts = {chart.axis: chart for chart in charts_of(facts)}
    assert sum(charts["side"].kept) == 158
    assert {limit.measure.axis for limit in PRODUCT.limits.values()} <= charts.keys()
    examples = [e for of_list in facts.records.images.examples().values() for e in of_list]
    assert {"side", "aspect", "words"} <= set().union(*(e.values for e in examples))
    assert "What another threshold would keep" in render_page(facts)
