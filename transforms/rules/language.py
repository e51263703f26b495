"""Texts in another language (ALIGN, section 3, keeps English ones).

The rule is judged in the first reading, since texts in other languages have no vote in the counts.
Its further numbers are parameters of `pairs/language.py`. Scores are recorded of dropped texts
alone: most others pass by a quick test, before their score is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alignset.transforms.rules.rule import Limit, Measure, Numbers, Rows, Stage

if TYPE_CHECKING:
    from alignset.transforms.columns.hashing import Bools
    from alignset.transforms.columns.records import Axis, Ints


class _Language(Limit):
    """Judged elsewhere, in the column `foreign`; `language_score` is NaN where none is known."""

    def dropped(self, rows: Rows, numbers: Numbers) -> Bools:
        return rows["foreign"]

    def bins(self, rows: Rows, axis: Axis) -> Ints:
        """All edges of a text in the wanted language; no value where no score would keep it."""
        import numpy as np

        bins = np.full(len(rows["foreign"]), len(axis.edges), np.int64)
        foreign = np.flatnonzero(rows["foreign"])
        scores = self.measure.of(rows)[foreign]
        bins[foreign] = np.searchsorted(axis.edges, scores, "right")
        # By more than its score it was found to be in another language, or by no score.
        unknown = np.isnan(scores) | (scores >= rows["own_language_score"])
        bins[foreign[unknown]] = axis.no_value
        return bins


MIN_LANGUAGE_SCORE = _Language(
    name="min_language_score",
    default=0.5,
    help="score of the language against the strongest other, 0 to 1, at least",
    words="Score of the language, at least",
    keeps=">=",
    measure=Measure(
        axis="language",
        label="Score of the language, of texts dropped for it",
        short="language score",
        of=lambda rows: rows["language_score"],
        column="language_score",
        edges=[round(0.05 * part, 2) for part in range(1, 20)],
        dropped_only=True,
    ),
    reason="wrong_language",
    step="language",
    stage=Stage.TEXT,
    means="the alt-text is in another language",
    detail="that language, or `und`",
    range=(0, 1),
    allows="from 0 to 1",
    needs="english",
    instead="--language",
)
