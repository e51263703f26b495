import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.threads import THREADS, in_threads


@given(st.lists(st.integers()))
@settings(max_examples=20)
def test_results_come_in_order(items: list[int]) -> None:
    assert list(in_threads(lambda item: item + 1, items)) == [item + 1 for item in items]


def test_a_slow_first_item_does_not_change_the_order() -> None:
    def slow_at_first(item: int) -> int:
        time.sleep(0.05 if item == 0 else 0)
        return item

    assert list(in_threads(slow_at_first, range(20))) == list(range(20))


def test_items_are_taken_only_a_little_ahead() -> None:
    taken = []

    def items():
        for item in range(100):
            taken.append(item)
            yield item

    results = in_threads(lambda item: item, items(), chunk=2)
    assert taken == []
    for expected in range(10):
        assert next(results) == expected
        assert len(taken) <= expected + 2 * (2 * THREADS + 1)
    results.close()


def test_items_run_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=10)
    assert len(list(in_threads(lambda _: both.wait(), range(2)))) == 2
    assert THREADS >= 2


def test_an_error_comes_out_at_its_place() -> None:
    def fail_at_two(item: int) -> int:
        if item == 2:
            raise ValueError("the third")
        return item

    results = in_threads(fail_at_two, range(10))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="the third"):
        next(results)


def test_an_error_of_the_source_comes_out() -> None:
    def items():
        yield 1
        raise OSError("the disk")

    with pytest.raises(OSError, match="the disk"):
        list(in_threads(lambda item: item, items()))
