"""What holds for every rule: a new one needs no test of its own but a case of the golden set."""

import math
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from alignset.pipeline.datasets.facts import Facts, find_facts
from alignset.pipeline.report.histograms import charts_of
from alignset.pipeline.report.sliders import sliders
from alignset.transforms.rules.catalogue import PRODUCT, steps
from alignset.transforms.rules.rule import Limit, OfCorpus, Reason, Rows, Rule
from alignset.transforms.rules.rule_settings import RuleSettings
from alignset.transforms.rules.verdicts import axes_of
from tests.support import golden
from tests.support.bad_web import bad_web
from tests.support.made_sets import put_made_set
from tests.support.rules import STEPS, rows_of, run_rules
from tests.support.small_web import small_web

# The contract's order.
CONTRACT = (
    *("broken_input", "broken_page", "opted_out", "malformed_pair"),
    *("removed_before", "blocked", "duplicate_pair"),
    *("wrong_language", "too_few_words", "too_many_words", "text_on_too_many_images"),
    *("image_with_too_many_texts", "rare_token", "fetch_failed", "not_an_image", "undecodable"),
    *("too_small", "too_elongated", "unsafe", "evaluation_overlap", "taken_down"),
)
# A rule that is off by default has another threshold here.
NUMBERS = dict(run_rules().numbers) | {
    limit.name: limit.threshold(limit.measure.edges[0])
    for limit in PRODUCT.limits.values()
    if limit.is_off(limit.default)
}
EVERY = pytest.mark.parametrize("rule", PRODUCT.rules, ids=lambda rule: rule.name)
EACH_LIMIT = pytest.mark.parametrize("limit", PRODUCT.limits.values(), ids=lambda limit: limit.name)
JUDGED_HERE = pytest.mark.parametrize(
    "limit",
    [limit for limit in PRODUCT.limits.values() if not limit.measure.dropped_only],
    ids=lambda limit: limit.name,
)


def test_the_reasons_are_those_of_the_contract_in_its_order() -> None:
    order = {reason: place for place, reason in enumerate(PRODUCT.reasons)}
    assert set(CONTRACT) <= order.keys()
    assert [*CONTRACT] == sorted(CONTRACT, key=order.__getitem__)


@pytest.mark.parametrize("entries", [PRODUCT.texts, PRODUCT.images], ids=["texts", "images"])
def test_each_reason_has_one_step_and_no_stage_comes_before_an_earlier_one(
    entries: tuple[Reason, ...],
) -> None:
    reasons = [entry.reason for entry in entries]
    assert len(reasons) == len(set(reasons))
    assert [entry.stage for entry in entries] == sorted(entry.stage for entry in entries)
    in_steps = [reason for of_step in steps(entries).values() for reason in of_step]
    assert in_steps == reasons  # no step is left and entered again
    assert {entry.step in PRODUCT.text_steps for entry in entries} == {entries is PRODUCT.texts}
    assert {entry.step for entry in entries} <= STEPS.keys()


def neighbours(limit: Limit, edge: float) -> list[float]:
    if limit.measure.whole:
        return [edge - 1, edge, edge + 1]
    return [math.nextafter(edge, -1), edge, math.nextafter(edge, math.inf)]


@JUDGED_HERE
def test_bin_and_verdict_agree_at_each_edge_and_beside_it(limit: Limit) -> None:
    (axis,) = axes_of([limit], NUMBERS)
    assert limit.edge(NUMBERS[limit.name]) in axis.edges
    for edge in axis.edges:
        values = [value for value in neighbours(limit, edge) if value >= limit.measure.least]
        rows = rows_of(limit, values)
        bins = limit.bins(rows, axis)
        kept = ~limit.dropped(rows, {limit.name: limit.threshold(edge)})
        passed = axis.passes(bins, edge, beyond=limit.keeps_above)
        assert passed.tolist() == kept.tolist(), edge
        assert len(set(kept.tolist())) == 2, "both sides of the edge are the same"


@JUDGED_HERE
def test_what_has_no_value_stays_and_has_a_bin_of_its_own(limit: Limit) -> None:
    rows = rows_of(limit, [math.nan])
    (axis,) = axes_of([limit], NUMBERS)
    assert limit.dropped(rows, NUMBERS).tolist() == [False]
    assert limit.bins(rows, axis).tolist() == [axis.no_value]


@JUDGED_HERE
def test_bins_of_whole_numbers_are_those_of_the_same_fractions(limit: Limit) -> None:
    (axis,) = axes_of([limit], NUMBERS)
    if limit.measure.over is None:
        rows = rows_of(limit, range(5000))
        whole = Rows({name: column.astype(np.int32) for name, column in rows.items()})
        for rows_of_both in (rows, whole):
            found = limit.bins(rows_of_both, axis)
            assert found.tolist() == limit.bins(rows, axis).tolist()


@EVERY
def test_what_makes_no_sense_is_refused_by_name(rule: Rule) -> None:
    assert rule.name in {field.name for field in fields(RuleSettings)}
    low, high = rule.range
    for value in (math.nan, low - 1, math.nextafter(low, -math.inf), high * 2):
        if not math.isinf(value):
            with pytest.raises(ValueError, match=f"^{rule.name} must be .*; got"):
                RuleSettings(**{rule.name: value})


@EVERY
def test_off_drops_nothing(rule: Rule) -> None:
    if rule.opened is None:
        # One is what --decontaminate_only is about; without a language, no score of it is asked.
        assert rule.name in ("min_evaluation_distance", "min_language_score")
        return
    assert PRODUCT.opened[rule.name] == rule.opened
    assert rule.is_off(rule.opened)
    if isinstance(rule, OfCorpus):
        rows = Rows(corpus={rule.makes: None})
        rows.alive = np.ones(3, np.bool_)
        assert rule.dropped(rows, {rule.name: rule.opened}).tolist() == [False] * 3
    if isinstance(rule, Limit):
        axis = axes_of([rule], NUMBERS)[0]
        values = [edge for edge in axis.edges if edge <= rule.range[1]]
        dropped = rule.dropped(rows_of(rule, values), {rule.name: rule.opened})
        assert not dropped.any()


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    folder = tmp_path_factory.mktemp("made") / "set"
    put_made_set(folder, 1, np.random.default_rng(2), pairs=500, compared=True)
    return find_facts(str(folder))


@EACH_LIMIT
def test_each_has_a_slider_and_a_chart_with_its_threshold(limit: Limit, facts: Facts) -> None:
    if limit.is_off(limit.default):
        return  # the made dataset has the defaults, and a report tells nothing of what is off
    (slider,) = (slider for slider in sliders(facts) if slider.rule == limit.name)
    assert slider.edges[slider.place] == facts.rules[limit.name]
    (chart,) = (chart for chart in charts_of(facts) if chart.axis == limit.measure.axis)
    assert f"--{limit.name}={facts.rules[limit.name]:g}" in [label for _, label in chart.marks]


# What the golden set lacks, and who has a case on each side.
ELSEWHERE = {
    **dict.fromkeys(
        ("broken_input", "broken_page", "opted_out", "removed_before", "blocked"), "tests/runs/"
    ),
    "unsafe": "tests/runs/test_determinism.py",  # to score costs 10 ms an image
    "rule_failed": "tests/runs/test_rules.py",
    **dict.fromkeys(("duplicate_image", "duplicate_of_training"), "tests/runs/test_duplicates.py"),
}


def test_the_golden_set_has_a_pair_for_each_reason(tmp_path: Path) -> None:
    with small_web() as web, bad_web() as bad:
        fates = [
            *golden.good_fates(web),
            *golden.text_fates(web),
            *golden.image_fates(web, bad.url),
        ]
    entries = {entry.reason for entry in (*PRODUCT.texts, *PRODUCT.images)}
    missing = entries - {fate.reason for fate in fates} - ELSEWHERE.keys()
    assert not missing, f"add to tests/support/golden.py a pair that is dropped as {missing}"
