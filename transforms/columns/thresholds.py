"""The rules that have a threshold on a measure that shards record: one table for the record, the
report and its page."""

from __future__ import annotations

from typing import NamedTuple

from alignset.transforms.columns import reasons as r

TEXTS, IMAGES = "texts", "images"  # the planes


class Threshold(NamedTuple):
    """A rule that compares a measure with a number.

    Fields:
      rule: as its flag. plane: TEXTS or IMAGES, whichever has its measure in a joint histogram.
      axis: of that. reason: why a pair is dropped.
      beyond: whether what passes an edge of the axis is kept, or else what does not.
    """

    rule: str
    plane: str
    axis: str
    reason: str
    beyond: bool


THRESHOLDS = {
    threshold.rule: threshold
    for threshold in (
        Threshold("min_image_side", IMAGES, "side", r.TOO_SMALL, True),
        Threshold("max_image_aspect", IMAGES, "aspect", r.TOO_ELONGATED, False),
        Threshold("max_unsafe_score", IMAGES, "unsafe", r.UNSAFE, False),
        Threshold("min_evaluation_distance", IMAGES, "distance", r.EVALUATION_OVERLAP, True),
        Threshold("min_words", TEXTS, "words", r.TOO_FEW_WORDS, True),
        Threshold("max_words", TEXTS, "words", r.TOO_MANY_WORDS, False),
        Threshold("min_language_score", TEXTS, "language", r.WRONG_LANGUAGE, True),
    )
}
OF_IMAGES = {rule: of for rule, of in THRESHOLDS.items() if of.plane == IMAGES}
RULE_OF = {of.reason: of.rule for of in THRESHOLDS.values()}
# The reasons by which an image was looked at and judged; None is of what was kept.
JUDGED = (None, *(of.reason for of in OF_IMAGES.values()))
# What else a text is dropped for, by counts of the whole corpus: the last axes of its histogram.
MARKS = (r.TEXT_ON_TOO_MANY_IMAGES, r.IMAGE_WITH_TOO_MANY_TEXTS, r.RARE_TOKEN)
AXES = {
    IMAGES: tuple(of.axis for of in OF_IMAGES.values()),
    TEXTS: (*dict.fromkeys(of.axis for of in THRESHOLDS.values() if of.plane == TEXTS), *MARKS),
}
BOTH_PLANES = {reason for reasons in r.TEXT_STEPS.values() for reason in reasons} & {
    reason for reasons in r.IMAGE_STEPS.values() for reason in reasons
}


def plane_of(step: str) -> str:
    """The plane of a step of the funnel."""
    return TEXTS if step in r.TEXT_STEPS else IMAGES


def list_name(plane: str, reason: str) -> str:
    """What the pairs are called that a plane dropped for a reason: the reason, and the plane where
    both give it."""
    return f"{reason} ({plane})" if reason in BOTH_PLANES else reason
