"""Whether each rule with a threshold is wherever the report's reader looks for it."""

from pathlib import Path

from alignset.pipeline.report import page, sliders
from alignset.pipeline.report.set_records import measured
from alignset.pipeline.rules import OPEN
from alignset.transforms.columns.records import Example
from alignset.transforms.columns.thresholds import THRESHOLDS

# What there is to know of an example.
KNOWN = Example(
    *("0" * 16, "http://a.example/", "a dog", []),
    width=9,
    height=9,
    words=3,
    score=0.2,
    unsafe=0.1,
    distance=1.0,
)
SCRIPT = Path(page.__file__).with_name("page") / "report.js"
AXES = {of.axis for of in THRESHOLDS.values()}


def test_each_has_a_slider():
    assert sliders.RULE_NAMES.keys() == THRESHOLDS.keys()


def test_of_an_example_each_is_known_and_can_be_filtered_by():
    assert [rule for rule in THRESHOLDS if measured(KNOWN, rule) is None] == []
    assert page.EXAMPLE_AXES.keys() >= AXES


def test_the_script_has_a_value_for_each_axis():
    values = SCRIPT.read_text().partition("const VALUES = {")[2].partition("};")[0]
    assert {line.split(":")[0].strip() for line in values.splitlines()} >= AXES


def test_with_decontaminate_only_each_drops_nothing():
    # One is what that flag is about, and without a language no score of it is asked.
    assert THRESHOLDS.keys() - OPEN.keys() == {"min_evaluation_distance", "min_language_score"}
