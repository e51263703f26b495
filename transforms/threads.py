"""Work for a second core within one element."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")

THREADS = max(2, min(4, os.cpu_count() or 2))  # beyond, threads wait for the interpreter's lock


def in_threads(
    function: Callable[[In], Out], items: Iterable[In], *, chunk: int = 1
) -> Iterator[Out]:
    """Maps in a few threads: results in order, never more than a few chunks taken before.

    Args:
      chunk: items given to a thread at once; handing over costs 50 us, so quick work takes more.
    """
    items = iter(items)

    def work(some: list[In]) -> list[Out]:
        return [function(item) for item in some]

    with ThreadPoolExecutor(THREADS) as pool:
        chunks = iter(lambda: list(islice(items, chunk)), [])
        waiting = deque(pool.submit(work, some) for some in islice(chunks, 2 * THREADS))
        while waiting:
            done = waiting.popleft()
            waiting.extend(pool.submit(work, some) for some in islice(chunks, 1))
            yield from done.result()
