import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignset.transforms.columns.rejects import (
    REJECTED,
    key_column,
    rejected_rows,
    without_contents,
)
from tests.support.rules import STEP_OF

PAIRS = pa.record_batch(
    {
        "key": pa.array([1, 2**64 - 1, 0xABC], pa.uint64()),
        "url": ["http://a/", "http://b/", "http://c/"],
        "caption": ["a", "b", "c"],
    }
)


def strings(values: list[str | None]) -> pa.StringArray:
    return pa.array(values, pa.string())


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_keys_read_as_16_hex_digits(keys: list[int]) -> None:
    column = key_column(np.array(keys, np.uint64))
    column.validate(full=True)
    assert column.to_pylist() == [f"{key:016x}" for key in keys]
    every_second = key_column(np.array(keys, np.uint64)[::2])
    assert every_second.to_pylist() == [f"{key:016x}" for key in keys[::2]]


@pytest.mark.parametrize("start", [0, 1])
def test_only_the_dropped_are_written_with_their_step_and_what_was_measured(start: int) -> None:
    reasons = strings(["too_small", None, "duplicate_pair"]).slice(start)
    details = strings(["x", "y", None]).slice(start)
    measures = {
        "also_reasons": strings([None, "unsafe", "too_few_words,rare_token"]).slice(start),
        "unsafe_score": pa.array([0.9, 0.1, None], pa.float64()).slice(start),
    }
    rows = rejected_rows(PAIRS.slice(start), reasons, details, STEP_OF, measures)
    assert rows.schema == REJECTED
    further = "too_few_words,rare_token"
    expected = [
        ("0000000000000001", "http://a/", "a", "size", "too_small", "x", None),
        ("0000000000000abc", "http://c/", "c", "duplicates", "duplicate_pair", None, further),
    ]
    assert [tuple(row.values())[:7] for row in rows.to_pylist()] == expected[start:]
    assert rows["unsafe_score"].to_pylist() == [0.9, None][start:]
    others = {*REJECTED.names[7:]} - {"unsafe_score"}
    assert all(rows[name].null_count == len(rows) for name in others)


def test_a_reason_outside_the_closed_set_raises() -> None:
    with pytest.raises(KeyError):
        rejected_rows(PAIRS, strings(["no such reason", None, None]), strings([None] * 3), STEP_OF)


def test_rows_that_hold_neither_url_nor_text_nor_page_nor_picture() -> None:
    reasons = strings(["blocked", "blocked", "too_few_words"])
    pairs = PAIRS.append_column("page_url", strings(["http://p/"] * 3))
    rows = rejected_rows(pairs, reasons, strings(["a.txt:host"] * 3), STEP_OF)
    which = pa.array([True, False, False])
    first, second, third = without_contents(rows, which).to_pylist()
    assert {name: value for name, value in first.items() if value is not None} == {
        "key": "0000000000000001",
        "step": "blocklist",
        "reason": "blocked",
        "detail": "a.txt:host",
    }
    assert [second, third] == rows.slice(1).to_pylist()
    assert without_contents(rows, pa.array([False] * 3)) is rows
