"""Both sides of each limit, and the rules of sizes row by row."""

import logging
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignset.transforms.rules.catalogue import PRODUCT, limits
from alignset.transforms.rules.columns import column_rules
from alignset.transforms.rules.custom import RuleError, computed, computing
from alignset.transforms.rules.rule import Limit, Measure, Rows, Stage
from alignset.transforms.rules.verdicts import column_rows, faults, first_of, further_of, size_rows
from tests.support.rules import rows_of

NAN = math.nan


@pytest.mark.parametrize(
    ("flag", "threshold", "kept", "dropped"),
    [
        ("min_image_side", 200, [201, 9000], [200, 1]),
        ("max_image_aspect", 3.0, [2.9999, 1], [3, 3.0001]),
        ("max_image_aspect", 1.5, [1.4999], [1.5]),
        ("max_unsafe_score", 0.5, [0.5, 0], [0.5001, 1]),
        ("max_unsafe_score", 0.0, [0], [0.0001]),
        ("max_unsafe_score", 1.0, [0, 1], []),
        ("min_evaluation_distance", 6, [6, 64], [5, 0]),
        ("min_evaluation_distance", 0.25, [0.25, 2], [0.2499]),
        ("min_evaluation_distance", 0, [0], []),
        ("min_words", 3, [3, 9], [2, 0]),
        ("max_words", 20, [20, 0], [21, 9000]),
    ],
)
def test_each_side_of_each_limit(
    flag: str, threshold: float, kept: list[float], dropped: list[float]
) -> None:
    rows = rows_of(PRODUCT.limits[flag], [*kept, *dropped])
    verdicts = PRODUCT.limits[flag].dropped(rows, {flag: threshold})
    assert verdicts.tolist() == [False] * len(kept) + [True] * len(dropped)


def size_reasons(sizes: list[tuple], min_side: int, max_aspect: float) -> list[str | None]:
    rows = size_rows([width for width, _ in sizes], [height for _, height in sizes])
    numbers = {"min_image_side": min_side, "max_image_aspect": max_aspect}
    return first_of(faults(limits(PRODUCT.images, Stage.HEADER), rows, numbers)).to_pylist()


sides = st.one_of(st.none(), st.integers(1, 700), st.just(2**31 - 1))


@given(st.lists(st.tuples(sides, sides)), st.integers(0, 300), st.sampled_from([1.5, 2.0, 3.0]))
def test_sizes_equal_the_rule_row_by_row(sizes: list, min_side: int, max_aspect: float) -> None:
    def rule(width: int | None, height: int | None) -> str | None:
        if width is None or height is None:
            return None
        shorter, longer = sorted((width, height))
        if shorter <= min_side:
            return "too_small"
        return "too_elongated" if longer >= shorter * max_aspect else None

    assert size_reasons(sizes, min_side, max_aspect) == [rule(*size) for size in sizes]


@pytest.mark.parametrize(
    ("values", "lacks"),
    [
        (["cc-by", "", "   ", "\u3000\t", None, "NA"], [0, 1, 1, 1, 1, 0]),
        ([0.0, math.nan, None, 1.0], [0, 1, 1, 0]),
        ([[], None, [1]], [0, 1, 0]),
    ],
)
def test_neither_null_nor_blank_is_a_value(values: list, lacks: list[int]) -> None:
    (rule,) = column_rules({"require_column=x": True})
    rows = column_rows([rule], {"x": pa.array(values)})
    assert rule.dropped(rows, {}).tolist() == [bool(lack) for lack in lacks]


@given(st.integers(1, 100), st.integers(0, 40), st.integers(0, 2**32), st.floats(0, 1))
def test_further_marks_are_all_but_the_first(
    count: int, size: int, seed: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    marks = {f"mark_{place}": rng.random(size) < share for place in range(count)}
    among = rng.random(size) < 0.8
    expected = [
        ",".join([name for name, mark in marks.items() if mark[row]][1:]) or None
        if among[row]
        else None
        for row in range(size)
    ]
    assert further_of(marks, among).to_pylist() == expected


# Rules of users that fail: an error of a row costs that row, an error of a machine the run.


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
