"""Beam stages that several packages use: elements worked on in threads, and the small documents
that jobs leave at their end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from alignset.transforms.storage.documents import write_document
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


@dataclass(eq=False)
class WriteSummary(beam.PTransform):
    """Writes several collections to one document.

    Args:
      kind: the dataclass of the document.
      values: singletons, by the names of its fields.
      sums: collections with what adds up their elements: one stage for what `CombineGlobally` needs
        five for. These are elements, not metrics: a bundle that is tried twice counts once.
    """

    path: str
    kind: Callable[..., Any]
    values: Mapping[str, beam.PCollection] = field(default_factory=dict)
    sums: Mapping[str, tuple[beam.PCollection, Callable[[Iterable[Any]], Any]]] = field(
        default_factory=dict
    )

    def expand(self, begin: Any) -> beam.PCollection:
        path, kind = self.path, self.kind
        add = {name: function for name, (_, function) in self.sums.items()}

        def write(_: None, **fields: Any) -> None:
            fields |= {name: function(fields[name]) for name, function in add.items()}
            write_document(path, kind(**fields))

        sides = {name: beam.pvalue.AsSingleton(value) for name, value in self.values.items()}
        sides |= {name: beam.pvalue.AsIter(parts) for name, (parts, _) in self.sums.items()}
        return begin.pipeline | beam.Create([None]) | beam.Map(write, **sides)
