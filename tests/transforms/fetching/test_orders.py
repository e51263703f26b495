"""Between two threads: what is taken of an order, and what its caller sees."""

from collections.abc import Iterator

import pytest

from alignset.transforms.fetching.orders import Fetched, Order


def test_results_come_in_the_order_in_which_they_were_given():
    order = Order(["a", "b"], 60)
    assert [order.take(), order.take(), order.take()] == [(0, "a"), (1, "b"), None]
    order.give(Fetched(1, b"xx", None))
    order.give(Fetched(0, None, "dns"))
    assert (order.unseen, order.unseen_bytes) == (2, 2)
    order.end()
    assert [one.index for one in order.results()] == [1, 0]
    assert (order.unseen, order.unseen_bytes) == (0, 0)
    assert order.nearly_taken.is_set()


def test_how_many_are_left_is_known_of_a_list():
    order = Order(["a", "b", "c"], 60)
    order.take()
    assert order.remaining_urls == 2
    assert Order((url for url in "abc"), 60).remaining_urls >= 1


def test_of_small_results_more_wait_before_the_caller_is_waited_for():
    for results, size, behind in (
        *((255, 1 << 20, False), (256, 1 << 18, True), (256, 1 << 17, False)),
        *((4_095, 0, False), (4_096, 0, True)),
    ):
        order, body = Order([], 60), bytes(size)
        for index in range(results):
            order.give(Fetched(index, body, None))
        assert order.is_behind == behind


def test_what_the_urls_raise_comes_to_the_caller():
    def broken() -> Iterator[str]:
        yield "a"
        raise RuntimeError("the list ended badly")

    order = Order(broken(), 60)
    assert order.take() == (0, "a")
    assert order.take() is None
    order.give(Fetched(0, b"", None))
    order.end()
    results = order.results()
    assert next(results).index == 0
    with pytest.raises(RuntimeError, match="ended badly"):
        next(results)
