import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.pvalue import TaggedOutput
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue
from hypothesis import given, settings
from hypothesis import strategies as st

from alignset.transforms.workers.threaded_dofn import ThreadedDoFn
from alignset.transforms.workers.threads import THREADS, Results, in_threads, stop_work
from tests.support.made_batches import run_in_beam


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
    """Each element's numbers; the first elements take longest."""

    def work(self, element: int, side: str = "") -> Iterator[Any]:
        for value in range(3):
            time.sleep(0.02 / (element + 1))
            yield element, value, side


@pytest.mark.parametrize("size", [0, 1, THREADS, THREADS + 1, 20])
def test_elements_keep_their_order(size: int) -> None:
    results = list(in_a_bundle(_Slower(), list(range(size)), "side"))
    assert results == [(element, value, "side") for element in range(size) for value in range(3)]


def test_a_threaded_do_fn_works_on_several_bundles() -> None:
    do_fn = _Slower()
    for elements in ([3, 4], [5]):
        results = list(in_a_bundle(do_fn, elements))
        assert results == [(element, value, "") for element in elements for value in range(3)]


class _Meet(ThreadedDoFn):
    def __init__(self) -> None:
        self.both = threading.Barrier(2, timeout=10)

    def work(self, element: int) -> Iterator[int]:
        self.both.wait()
        yield element


def test_elements_are_worked_on_at_the_same_time() -> None:
    assert list(in_a_bundle(_Meet(), [1, 2])) == [1, 2]


class _Taken(ThreadedDoFn):
    def take(self, element: Iterator[int]) -> tuple[list[int], int]:
        return list(element), threading.get_ident()

    def work(self, element: tuple[list[int], int]) -> Iterator[tuple[list[int], bool, bool]]:
        taken, thread = element
        here = threading.get_ident()
        yield taken, thread == RUNNER, here == RUNNER


RUNNER = threading.get_ident()


def test_elements_are_taken_on_the_runners_thread_and_worked_on_in_others() -> None:
    results = list(in_a_bundle(_Taken(), [iter([1, 2]), iter([3])]))
    assert results == [([1, 2], True, False), ([3], True, False)]


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
    time.sleep(0.3)
    assert 60 < do_fn.made < 70
    assert not do_fn.closed.is_set()
    do_fn.teardown()  # what a runner calls after a bundle that failed
    assert do_fn.closed.wait(5)
    assert do_fn.made < 70


class _Fail(ThreadedDoFn):
    def __init__(self, at: int) -> None:
        self.at = at

    def work(self, element: int) -> Iterator[int]:
        yield element
        if element == self.at:
            raise ValueError(f"element {element}")
        yield -element


@pytest.mark.parametrize("at", [0, 3, 9])
def test_an_error_fails_the_bundle_at_its_place(at: int) -> None:
    before = set(threading.enumerate())
    do_fn = _Fail(at)
    expected = [value for element in range(at) for value in (element, -element)] + [at]
    results = in_a_bundle(do_fn, list(range(10)))
    assert [next(results) for _ in expected] == expected  # what came before the error
    with pytest.raises(ValueError, match=f"element {at}"):
        next(results)
    do_fn.teardown()
    assert not still_at_work(before)


AT_WORK: set[int] = set()


class _FailBesideEndless(ThreadedDoFn):
    def work(self, element: int) -> Iterator[int]:
        AT_WORK.add(element)
        try:
            while element > 0:
                yield element
            while len(AT_WORK) < THREADS:
                time.sleep(0.01)
            raise ValueError("the first element")
        finally:
            AT_WORK.remove(element)


def test_an_error_in_beam_leaves_no_thread_at_work() -> None:
    def build(pipeline: beam.Pipeline) -> None:
        elements = pipeline | beam.Create([range(2 * THREADS)]) | beam.FlatMap(list)
        _ = elements | beam.ParDo(_FailBesideEndless())

    with pytest.raises(Exception, match="the first element"):
        run_in_beam(build)
    until = time.monotonic() + 20
    while AT_WORK and time.monotonic() < until:
        time.sleep(0.05)
    assert not AT_WORK


class _Tagged(ThreadedDoFn):
    def work(self, element: int, side: int) -> Iterator[Any]:
        yield element
        yield TaggedOutput("squares", element**2 + side)


def test_tagged_outputs_in_beam() -> None:
    """More elements than threads, so that some are given out before the bundle's end."""
    elements = list(range(3 * THREADS))

    def build(pipeline: beam.Pipeline) -> None:
        side = pipeline | "Side" >> beam.Create([100])
        tagged = beam.ParDo(_Tagged(), beam.pvalue.AsSingleton(side))
        outputs = pipeline | beam.Create(elements) | tagged.with_outputs("squares", main="same")
        assert_that(outputs["same"], equal_to(elements), label="same")
        squares = [n**2 + 100 for n in elements]
        assert_that(outputs["squares"], equal_to(squares), label="squares")

    run_in_beam(build)


def fail(value: int) -> None:
    raise ValueError("downstream")


def test_an_error_behind_it_stops_its_threads() -> None:
    """What it yields fails in another step: its thread would fill its queue and wait for ever."""
    before = set(threading.enumerate())
    with pytest.raises(Exception, match="downstream"), beam.Pipeline(runner=FnApiRunner()) as p:
        p | beam.Create([1, 2]) | beam.ParDo(_Endless()) | beam.Map(fail)
    stop_work()
    assert not still_at_work(before)


def still_at_work(before: set[threading.Thread]) -> list[threading.Thread]:
    """The threads of pools begun since then that have work; those that end theirs within some
    seconds have none. Without any a thread waits until its pool is collected."""
    until = time.monotonic() + 20
    while True:
        frames = sys._current_frames()
        begun = set(threading.enumerate()) - before
        pools = [thread for thread in begun if thread.name.startswith("ThreadPool")]
        at_work = [
            thread
            for thread in pools
            if thread.ident in frames and frames[thread.ident].f_code.co_name != "_worker"
        ]
        if not at_work or time.monotonic() > until:
            return at_work
        time.sleep(0.05)


def test_stopped_work_takes_no_further_batch() -> None:
    taken: list[int] = []

    class Slow(ThreadedDoFn):
        def work(self, element: int) -> Iterator[int]:
            yield from in_threads(lambda batch: taken.append(batch) or time.sleep(0.05), range(200))

    do_fn = Slow()
    do_fn.start_bundle()
    assert not list(do_fn.process(0))
    time.sleep(0.2)
    do_fn.teardown()
    count = len(taken)
    assert 0 < count < 100
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
