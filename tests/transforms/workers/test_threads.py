import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import pytest
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from alignset.transforms.workers.threaded_dofn import ThreadedDoFn
from alignset.transforms.workers.threads import (
    THREADS,
    Jobs,
    Results,
    SharedThreads,
    in_threads,
    stop_work,
)


@pytest.mark.parametrize("size", [0, 1, 20])
def test_results_come_in_order_whatever_takes_longest(size: int) -> None:
    def slow_at_first(item: int) -> int:
        time.sleep(0.05 if item == 0 else 0)
        return item + 1

    assert list(in_threads(slow_at_first, range(size))) == list(range(1, size + 1))


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


def test_items_run_at_the_same_time_and_an_error_comes_out_at_its_place() -> None:
    both = threading.Barrier(2, timeout=10)
    assert len(list(in_threads(lambda _: both.wait(), range(2)))) == 2
    assert THREADS >= 2
    results = in_threads(lambda item: 6 // (2 - item), range(10))
    assert [next(results), next(results)] == [3, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)

    def items():
        yield 1
        raise OSError("the disk")

    with pytest.raises(OSError, match="the disk"):
        list(in_threads(lambda item: item, items()))


def test_jobs_are_waited_for_or_cancelled_and_what_one_raises_comes_out() -> None:
    threads, events = SharedThreads(), []
    jobs = Jobs(threads, 2)
    for number in range(50):
        jobs.begin(events.append, number)
    jobs.finish()
    assert sorted(events) == list(range(50))

    def fail(number: int) -> None:
        if number == 3:
            raise OSError("the disk")

    failing = Jobs(threads, 2 * THREADS)
    with pytest.raises(OSError, match="the disk"):  # waits for no room that never comes
        list(map(failing.begin, [fail] * 1000, range(1000)))
    for _ in range(3 * THREADS):  # nor does any other thread that begins work
        with pytest.raises(OSError, match="the disk"):
            failing.begin(fail, 0)
    with pytest.raises(OSError, match="the disk"):
        failing.finish()
    begun, let_go, slow = threading.Event(), threading.Event(), Jobs(threads)
    for _ in range(50):
        slow.begin(lambda: (begun.set(), let_go.wait(), events.clear()))
    assert begun.wait(60)  # otherwise all may be cancelled before one has begun
    threading.Timer(0.1, let_go.set).start()
    slow.cancel()
    assert events == []
    jobs.begin(events.append, 1)  # others go on
    jobs.finish()
    assert events == [1]


def in_a_bundle(do_fn: ThreadedDoFn, elements: list, *sides: Any) -> Iterator[Any]:
    """What a runner gets of one bundle; what the bundle's end gives, without its window."""
    do_fn.start_bundle()
    for element in elements:
        yield from do_fn.process(element, *sides)
    for value in do_fn.finish_bundle():
        tagged = isinstance(value, TaggedOutput)
        windowed = value.value if tagged else value
        assert isinstance(windowed, WindowedValue)
        assert windowed.windows == (GlobalWindow(),)
        yield TaggedOutput(value.tag, windowed.value) if tagged else windowed.value


class _Slower(ThreadedDoFn):
    """Each element's numbers; the first elements take longest, and one may fail."""

    def __init__(self, failing: int) -> None:
        self.failing = failing

    def take(self, element: int) -> int:
        assert threading.get_ident() == RUNNER
        return element

    def work(self, element: int, side: str = "") -> Iterator[Any]:
        assert threading.get_ident() != RUNNER
        for value in range(3):
            time.sleep(0.02 / (element + 1))
            if value and element == self.failing:
                raise ValueError(f"element {element}")
            yield element, value, side


RUNNER = threading.get_ident()


@pytest.mark.parametrize("failing", [100, 0, 9])
def test_elements_keep_their_order_until_one_fails(failing: int) -> None:
    do_fn = _Slower(failing)
    for size in (0, 1, THREADS, THREADS + 1, 20):
        expected = [(element, n, "side") for element in range(size) for n in range(3)]
        results = in_a_bundle(do_fn, list(range(size)), "side")
        if failing < size:
            expected = expected[: 3 * failing + 1]
        assert [*islice(results, len(expected))] == expected  # what came before the error
        with pytest.raises(ValueError if failing < size else StopIteration):
            next(results)
    do_fn.teardown()


def wait_until(happened: Callable[[], object]) -> None:
    """However busy the machine is."""
    end = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.01)


class _Endless(ThreadedDoFn):
    def __init__(self) -> None:
        self.made = 0
        self.closed = threading.Event()

    def work(self, element: int) -> Iterator[int]:
        try:
            while self.made < 100_000:
                self.made += 1
                yield self.made
        finally:
            self.closed.set()


def test_work_runs_only_a_little_ahead_and_ends_with_its_bundle() -> None:
    do_fn = _Endless()
    do_fn.start_bundle()
    assert list(do_fn.process(1)) == []
    wait_until(lambda: do_fn.made > 60)
    time.sleep(0.3)
    assert do_fn.made < 70
    assert not do_fn.closed.is_set()
    do_fn.teardown()  # what a runner calls after a bundle that failed
    assert do_fn.closed.wait(60)
    assert do_fn.made < 70


def test_stopped_work_takes_no_further_batch() -> None:
    taken: list[int] = []

    class Slow(ThreadedDoFn):
        def work(self, element: int) -> Iterator[int]:
            yield from in_threads(lambda batch: taken.append(batch) or time.sleep(0.05), range(200))

    do_fn = Slow()
    do_fn.start_bundle()
    assert not list(do_fn.process(0))
    wait_until(lambda: taken)
    do_fn.teardown()
    count = len(taken)
    assert count < 100
    time.sleep(0.3)
    assert len(taken) == count


@pytest.mark.parametrize("is_daemon", [True, False])
def test_who_waits_for_stopped_work_is_told_but_not_a_bundle_of_beam(is_daemon: bool) -> None:
    """Whose thread is a daemon: Beam would print an error that is none."""
    told: list[BaseException] = []

    def waits(results: Results[int]) -> None:
        try:
            list(results)
        except InterruptedError as error:
            told.append(error)

    let_go = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        results = Results(pool, lambda: [let_go.wait()])
        thread = threading.Thread(target=waits, args=(results,), daemon=is_daemon)
        thread.start()
        threading.Timer(0.3, let_go.set).start()
        stop_work()
        thread.join(1.0 if is_daemon else None)
    assert thread.is_alive() == is_daemon
    assert len(told) == (not is_daemon)
