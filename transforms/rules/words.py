"""Texts of too few or too many words (ALIGN, section 3)."""

import math

from alignset.transforms.rules.rule import Limit, Measure, Stage

WORDS = Measure(
    axis="words",
    label="Words of the text",
    short="words",
    of=lambda rows: rows["word_count"],
    edges=range(1, 41),
    whole=True,
    unit=" words",
)
MIN_WORDS = Limit(
    name="min_words",
    default=3,
    help="unigrams in the alt-text, at least",
    words="Words of the text, at least",
    keeps=">=",
    measure=WORDS,
    reason="too_few_words",
    step="words",
    stage=Stage.TEXT,
    means="the alt-text has fewer words than the rule allows",
    opened=0,
)
MAX_WORDS = Limit(
    name="max_words",
    default=20,
    help="unigrams in the alt-text, at most",
    words="Words of the text, at most",
    keeps="<=",
    measure=WORDS,
    reason="too_many_words",
    step="words",
    stage=Stage.TEXT,
    means="the alt-text has more words than the rule allows",
    opened=1_000_000_000,
    range=(1, math.inf),
    allows=">= 1, or no pair passes",
)
