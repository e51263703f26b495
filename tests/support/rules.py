"""Rows that have given values of a rule's measure, and the numbers of the usual run."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from alignset.transforms.rules.catalogue import PRODUCT
from alignset.transforms.rules.rule import Limit, Rows
from alignset.transforms.rules.rule_settings import RuleSettings

_DIVISOR = 1 << 20  # a power of two, so that a quotient is exact


class _Asked(Rows):
    """Notes which column is asked for."""

    def __missing__(self, name: str) -> np.ndarray:
        self.name = name
        return np.ones(1)


def _column(question: Any) -> str:
    asked = _Asked()
    question(asked)
    return asked.name


def rows_of(limit: Limit, values: Sequence[float]) -> Rows:
    """Rows whose measure has these values, whatever column it is of."""
    measure, column = limit.measure, np.array(values, np.float64)
    if measure.over is not None:
        divisor = np.full(len(column), float(_DIVISOR))
        return Rows({_column(measure.of): column * divisor, _column(measure.over): divisor})
    return Rows({_column(measure.of): column})


def run_rules(**numbers: float) -> RuleSettings:
    """The rules with these thresholds, and else their usual ones, on texts in any language."""
    return RuleSettings(**{"language": "", **numbers})


STEPS = PRODUCT.text_steps | PRODUCT.image_steps
# The first, of a reason that both stages give.
STEP_OF = {entry.reason: entry.step for entry in (*PRODUCT.images, *PRODUCT.texts)}
