import importlib.metadata
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue
from hypothesis import given
from hypothesis import strategies as st

from alignset.transforms.storage.documents import Counts, add_counts
from alignset.transforms.workers.packages import DECIDING, CheckWorker, deciding, package_versions
from alignset.transforms.workers.stages import ThreadedDoFn
from alignset.transforms.workers.threads import (
    THREADS,
    Jobs,
    Results,
    SharedThreads,
    map_in_threads,
    stop_work,
)
from tests.support.root import ROOT


def test_items_are_taken_only_a_little_ahead() -> None:
    taken = []

    def items():
        for item in range(100):
            taken.append(item)
            yield item

    results = map_in_threads(lambda item: item, items(), chunk=2)
    assert taken == []
    for expected in range(10):
        assert next(results) == expected
        assert len(taken) <= expected + 2 * (2 * THREADS + 1)
    results.close()


def test_items_run_at_the_same_time_and_an_error_comes_out_at_its_place() -> None:
    both = threading.Barrier(2, timeout=10)
    assert len(list(map_in_threads(lambda _: both.wait(), range(2)))) == 2
    assert THREADS >= 2
    results = map_in_threads(lambda item: 6 // (2 - item), range(10))
    assert [next(results), next(results)] == [3, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)

    def items():
        yield 1
        raise OSError("the disk")

    with pytest.raises(OSError, match="the disk"):
        list(map_in_threads(lambda item: item, items()))


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
            yield from map_in_threads(
                lambda batch: taken.append(batch) or time.sleep(0.05), range(200)
            )

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


# A worker without what the launcher has says which package.


def test_all_that_decides_is_compared_and_another_worker_ends_with_one_line():
    here = package_versions()
    assert here.keys() == {"python", "icu", "alignset", *DECIDING}
    assert here["numpy"] == importlib.metadata.version("numpy")
    more = package_versions(deciding("pages", "vote", "langdetect", "exact_resize", ""))
    assert more.keys() - here.keys() == {
        *("lxml", "resiliparse", "pycld2", "py3langid", "langdetect", "img2dataset")
    }
    check = CheckWorker()
    check.start_bundle()
    assert list(check.process("a")) == ["a"]
    for name, said in (
        ("numpy", f"numpy {here['numpy']}, and the command was started with 1.0"),
        ("other", "no package other, and 1.0 is wanted"),
    ):
        check.versions = here | {name: "1.0"}
        with pytest.raises(
            RuntimeError, match=rf"\A{socket.gethostname()} has {said}: .*base\.txt.*\Z"
        ):
            check.start_bundle()


@pytest.mark.slow
def test_other_sources_are_another_project(tmp_path: Path):
    for room in ("alignset", "pipeline", "transforms"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / room, tmp_path / room, symlinks=True, ignore=ignored)
    tell = [
        sys.executable,
        "-c",
        "from alignset.transforms.workers.packages import *; print(package_versions()['alignset'])",
    ]
    same = subprocess.run(tell, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert same.strip() == package_versions()["alignset"]
    told = {same}
    for changed in (
        "pipeline/settings.py",
        "pipeline/inputs/readers.py",
        "transforms/images/examine.py",
    ):
        assert (tmp_path / changed).exists()
        with (tmp_path / changed).open("a") as source:
            source.write("# another line\n")
        other = subprocess.run(tell, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert other.stdout.startswith("sources ")
        assert other.stdout not in told
        told.add(other.stdout)


dropped = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 9))


@given(st.lists(st.builds(Counts, st.integers(0, 9), st.integers(0, 9), dropped)), st.integers(0))
def test_counts_of_workers_add_up_in_any_grouping(parts: list[Counts], cut: int) -> None:
    whole = add_counts(parts)
    assert whole.seen == sum(part.seen for part in parts)
    assert whole.kept == sum(part.kept for part in parts)
    names = sorted({name for part in parts for name in part.dropped})
    totals = {name: sum(part.dropped.get(name, 0) for part in parts) for name in names}
    assert [*whole.dropped.items()] == [*totals.items()]  # in this order
    assert add_counts([add_counts(parts[:cut]), add_counts(parts[cut:])]) == whole
