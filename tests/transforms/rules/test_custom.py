"""Rules of users that fail: an error of a row costs that row, an error of a machine the run."""

import logging
import math
from collections.abc import Callable
from typing import Any

import pytest

from alignset.transforms.rules.custom import RuleError, computed, computing
from alignset.transforms.rules.rule import Limit, Measure, Rows, Stage


def limit(of: Callable[[Rows], Any], name: str = "max_a") -> Limit:
    measure = Measure(axis="a", label="a", short="a", of=of, edges=[1])
    return computing(
        Limit(
            name=name,
            default=1.0,
            help="a",
            words="a",
            keeps="<=",
            reason="a",
            step="a",
            means="a",
            stage=Stage.TEXT,
            measure=measure,
        )
    )


def each(of: Callable[[str], float | None], name: str = "max_a") -> Limit:
    return limit(lambda rows: [of(text) for text in rows["text"]], name)


def raising(error: BaseException, where: str) -> Callable[[str], float]:
    def of(text: str) -> float:
        if where in text:
            raise error
        return 1.0

    return of


class OutOfMemoryError(RuntimeError):
    """As torch has it for GPUs."""


TEXTS = ("one", "two", "three")


@pytest.mark.parametrize(
    "error", [ValueError(), MemoryError(), OutOfMemoryError(), SystemExit(0)], ids=repr
)
def test_an_error_of_a_row_costs_that_row(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    rule = each(raising(error, "wo"), type(error).__name__)  # a line of a rule is told of once
    values, is_failed = computed(rule, Rows(text=TEXTS), 3)
    assert is_failed.tolist() == [False, True, False]
    assert [value for value in values.tolist() if not math.isnan(value)] == [1, 1]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


@pytest.mark.parametrize(
    ("error", "where"),
    [(ModuleNotFoundError("No module named 'x'"), "two"), (MemoryError("full"), "")],
)
def test_what_a_machine_lacks_ends_the_run(error: Exception, where: str) -> None:
    with pytest.raises(RuleError, match=r"^the rule max_a failed at .*, line \d+ by what this"):
        computed(each(raising(error, where)), Rows(text=TEXTS), 3)


@pytest.mark.parametrize(
    "of", [lambda rows: [1.0], lambda rows: [1.0] * 4, lambda rows: [[1.0]] * len(rows["text"])]
)
def test_another_number_of_values_ends_the_run(of: Callable[[Rows], Any]) -> None:
    with pytest.raises(RuleError, match=r"numbers of the shape .* for 3 rows: .* one for each row"):
        computed(limit(of), Rows(text=TEXTS), 3)
