"""The table of the rules with thresholds agrees with the rules, their reasons and their planes."""

from dataclasses import fields

from alignset.pipeline.rules import Rules
from alignset.transforms.columns import reasons as r
from alignset.transforms.columns.thresholds import (
    AXES,
    BOTH_PLANES,
    IMAGES,
    JUDGED,
    MARKS,
    TEXTS,
    THRESHOLDS,
    list_name,
    plane_of,
)


def test_each_is_a_rule_of_its_plane_and_on_an_axis_of_it():
    steps = {TEXTS: r.STEP_OF_TEXTS, IMAGES: r.STEP_OF_IMAGES}
    for rule, of in THRESHOLDS.items():
        assert rule == of.rule
        assert rule in {field.name for field in fields(Rules)}
        assert of.reason in steps[of.plane]
        assert plane_of(steps[of.plane][of.reason]) == of.plane
        assert of.axis in AXES[of.plane]
        assert of.beyond == rule.startswith("min_")


def test_a_reason_of_both_planes_is_told_with_its_plane():
    assert {r.BLOCKED, r.OPTED_OUT} == BOTH_PLANES
    assert list_name(TEXTS, r.OPTED_OUT) == "opted_out (texts)"
    assert list_name(IMAGES, r.OPTED_OUT) == "opted_out (images)"
    assert list_name(IMAGES, r.TOO_SMALL) == r.TOO_SMALL


def test_what_is_judged_was_looked_at():
    assert JUDGED == (None, r.TOO_SMALL, r.TOO_ELONGATED, r.UNSAFE, r.EVALUATION_OVERLAP)
    assert set(MARKS) <= set(r.STEP_OF_TEXTS)
