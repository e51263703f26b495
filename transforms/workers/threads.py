"""Work for a second core within one element."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import nullcontext, suppress
from itertools import islice
from queue import Empty, Full, Queue
from threading import Event, Semaphore, current_thread, local
from typing import Any, Generic, NoReturn, TypeVar
from weakref import WeakSet

In = TypeVar("In")
Out = TypeVar("Out")
_END = object()
_ALL: WeakSet[Results[Any]] = WeakSet()
_LOOK_S = 0.2  # between two looks whether what is waited for was stopped
_HERE = local()  # `stop_signal`: the event of the results that this thread makes, if any

THREADS = max(2, min(4, os.cpu_count() or 2))  # beyond, threads wait for the interpreter's lock


def map_in_threads(
    function: Callable[[In], Out], items: Iterable[In], *, chunk: int = 1
) -> Iterator[Out]:
    """Maps in a few threads: results in order, never more than a few chunks taken before.

    Args:
      chunk: items given to a thread at once; handing over costs 50 us, so quick work takes more.
    """
    items, stop_signal = iter(items), getattr(_HERE, "stop_signal", None)

    def work(some: list[In]) -> list[Out]:
        _HERE.stop_signal = stop_signal
        return [function(item) for item in some]

    with ThreadPoolExecutor(THREADS) as pool:
        chunks = iter(lambda: list(islice(items, chunk)), [])
        waiting = deque(pool.submit(work, some) for some in islice(chunks, 2 * THREADS))
        while waiting:
            check_stopped()
            oldest = waiting.popleft()
            waiting.extend(pool.submit(work, some) for some in islice(chunks, 1))
            yield from oldest.result()


class SharedThreads:
    """A few threads for the work of all shards that are under way: each shard's own would hold as
    many images more."""

    def __init__(self) -> None:
        self._renew()
        os.register_at_fork(after_in_child=self._renew)  # the threads are the parent's

    def _renew(self) -> None:
        self.pool = ThreadPoolExecutor(THREADS)


class Jobs:
    """Work that several threads do for one caller, who waits for all of it or cancels it; and in
    `begin`, while so many are under way."""

    def __init__(self, threads: SharedThreads, most_waiting: int | None = None) -> None:
        self._pool, self._stop_signal = threads.pool, getattr(_HERE, "stop_signal", None)
        self._room = Semaphore(most_waiting) if most_waiting else nullcontext()
        self._futures: list[Future[None]] = []
        self._errors: list[BaseException] = []

    def begin(self, work: Callable[..., None], *args: Any) -> None:
        """Has a thread work, where nothing has raised by now; else raises that. On any thread."""
        self._room.__enter__()
        if self._errors:
            self._room.__exit__(None, None, None)  # other threads may wait for it
            raise self._errors[0]
        self._futures.append(self._pool.submit(self._run, work, *args))

    def _run(self, work: Callable[..., None], *args: Any) -> None:
        _HERE.stop_signal = self._stop_signal
        try:
            if not self._errors:
                work(*args)
        except BaseException as error:  # a full disk, no memory; raised again where it is seen
            self._errors.append(error)
        finally:
            self._room.__exit__(None, None, None)

    def wait_until_done(self) -> Iterator[None]:
        """Yields now and then until all is done.

        Raises:
          BaseException: what some of the work raised.
          InterruptedError: the work of this thread was stopped.
        """
        for future in self._futures:  # each look at all of them would take longer than most work
            while wait([future], _LOOK_S).not_done:
                check_stopped()
                yield
        if self._errors:
            raise self._errors[0]

    def finish(self) -> None:
        """Waits until all is done, and raises what `wait_until_done` does."""
        for _ in self.wait_until_done():
            pass

    def cancel(self) -> None:
        """Leaves out what has not begun, and waits for the rest."""
        for future in self._futures:
            future.cancel()
        wait(self._futures)


def check_stopped() -> None:
    """Returns unless the work of this thread is to end.

    Raises:
      InterruptedError: it is.
    """
    stop_signal = getattr(_HERE, "stop_signal", None)
    if stop_signal and stop_signal.is_set():
        raise InterruptedError("this work was stopped")


def leave_stopped() -> NoReturn:
    """Called on a thread that waits for work which another thread has stopped.

    Beam has the threads of its bundles stopped where their process ends, or their pipeline has
    failed. They are daemons, for which nobody waits, and it would print what they raise: an error
    that is none. So on such a thread this waits without end.

    Raises:
      InterruptedError: on any other thread.
    """
    if current_thread().daemon:
        Event().wait()
    raise InterruptedError("the work that is waited for was stopped")


class Results(Generic[Out]):
    """Results of a generator on another thread, which never runs far ahead."""

    def __init__(self, pool: ThreadPoolExecutor, function: Callable[[], Iterable[Out]]) -> None:
        self._queue: Queue[Any] = Queue(maxsize=64)
        self._stop_signal = Event()
        self._future = pool.submit(self._run, function)
        _ALL.add(self)

    def _run(self, function: Callable[[], Iterable[Out]]) -> None:
        if self._stop_signal.is_set():
            return
        _HERE.stop_signal = self._stop_signal
        try:
            for value in function():
                self._put(value)
                if self._stop_signal.is_set():
                    return
        finally:
            self._put(_END)

    def _put(self, value: Any) -> None:
        while not self._stop_signal.is_set():
            with suppress(Full):
                return self._queue.put(value, timeout=0.1)

    def __iter__(self) -> Iterator[Out]:
        try:
            while (value := self._next()) is not _END:
                yield value
            self._future.result()  # raises what the function raised
        finally:
            self.stop()

    def _next(self) -> Any:
        while True:
            with suppress(Empty):
                return self._queue.get(timeout=_LOOK_S)
            if self._stop_signal.is_set():  # and so no more comes
                leave_stopped()

    @property
    def done(self) -> bool:
        """Whether the function has ended; what it yielded may still be asked for."""
        return self._future.done()

    def stop(self) -> None:
        """Lets the thread end at its next value, or its next batch (`map_in_threads`)."""
        self._stop_signal.set()
        self._future.cancel()

    def wait(self) -> None:
        """Until the thread does no more."""
        wait([self._future])


def stop_work(some: Iterable[Results[Any]] | None = None) -> None:
    """Stops what is under way, all of this process if not `some`, and waits for it: before others
    may write where it writes, or when the interpreter would wait for it in vain."""
    running = list(_ALL if some is None else some)
    for results in running:
        results.stop()
    for results in running:
        results.wait()
