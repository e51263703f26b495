"""Texts of too few or too many words (ALIGN, section 3)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from alignset.transforms.rules.rule import Limit, Measure, Numbers, Rows, Stage

if TYPE_CHECKING:
    from alignset.transforms.columns.hashing import Bools

WORDS = Measure(
    axis="words",
    label="Words of the text",
    short="words",
    of=lambda rows: rows["word_count"],
    edges=range(1, 41),
    whole=True,
    unit=" words",
)


class _WordLimit(Limit):
    """The limit of a language that has its own, by a column of the flag's name."""

    def dropped(self, rows: Rows, numbers: Numbers) -> Bools:
        own = rows.get(self.name)
        return super().dropped(rows, numbers if own is None else {**numbers, self.name: own})


MIN_WORDS = _WordLimit(
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
MAX_WORDS = _WordLimit(
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
