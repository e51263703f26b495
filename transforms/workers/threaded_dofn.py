"""A DoFn whose elements are worked on in threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from alignset.transforms.workers.threads import THREADS, Results, stop_work


class ThreadedDoFn(beam.DoFn):
    """A DoFn that works on several elements at once; its results keep the elements' order.

    For work of milliseconds and more that leaves the interpreter's lock, in the global window.
    """

    def take(self, element: Any) -> Any:
        """The values that `work` needs of an element; on the runner's own thread, which may hold
        iterables that cannot be read from another."""
        return element

    def work(self, element: Any, *sides: Any) -> Iterable[Any]:
        """The results of one element; on any thread."""
        raise NotImplementedError

    def start_bundle(self) -> None:
        self.teardown()  # of a bundle that failed, where the runner left that out
        self._pool = ThreadPoolExecutor(THREADS)
        self._running: deque[Results[Any]] = deque()

    def process(self, element, *sides):  # type: ignore[no-untyped-def]  # Beam would read hints
        item = self.take(element)
        self._running.append(Results(self._pool, lambda: self.work(item, *sides)))
        while len(self._running) > THREADS:
            yield from self._running[0]  # which stays there, to be stopped if this is left
            self._running.popleft()

    def finish_bundle(self) -> Iterator[Any]:
        while self._running:
            for value in self._running[0]:  # a bundle's end gives their window, inside the tag
                tag = value.tag if isinstance(value, TaggedOutput) else None
                end = GlobalWindow()
                windowed = WindowedValue(value.value if tag else value, end.max_timestamp(), (end,))
                yield TaggedOutput(tag, windowed) if tag else windowed
            self._running.popleft()
        self._pool.shutdown()

    def teardown(self) -> None:
        stop_work(getattr(self, "_running", ()))
