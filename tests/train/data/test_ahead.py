"""Work in a thread: the same items, errors in their place, an end that leaves no thread."""

import threading
import time

import pytest

from alignset.train.data.ahead import ahead


def test_items_come_in_order_and_an_error_in_its_place():
    def items():
        yield from range(5)
        raise ValueError("the sixth")

    numbers = ahead(items(), 2, lambda i: 10 * i)
    assert [next(numbers) for _ in range(5)] == [0, 10, 20, 30, 40]
    with pytest.raises(ValueError, match="the sixth"):
        next(numbers)
    assert list(ahead((i for i in range(3)), 1, int)) == [0, 1, 2]


def test_it_runs_so_many_ahead_and_ends_when_closed():
    made, closed = [], threading.Event()

    def items():
        try:
            for i in range(100):
                made.append(i)
                yield i
        finally:
            closed.set()

    numbers = ahead(items(), 3, int)
    assert next(numbers) == 0
    time.sleep(0.1)
    assert len(made) <= 5
    numbers.close()
    assert closed.is_set()
    assert not any(thread.name == "ahead" for thread in threading.enumerate())
