"""Work for a second core within one element."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")

THREADS = max(2, min(4, os.cpu_count() or 2))  # beyond, threads wait for the interpreter's lock


def in_threads(
    function: Callable[[In], Out], items: Iterable[In], *, ahead: int = 2 * THREADS
) -> Iterator[Out]:
    """Maps in a few threads: results in order, never more than `ahead` items taken before."""
    items = iter(items)
    with ThreadPoolExecutor(THREADS) as pool:
        waiting = [pool.submit(function, item) for item in islice(items, ahead)]
        while waiting:
            done = waiting.pop(0)
            waiting.extend(pool.submit(function, item) for item in islice(items, 1))
            yield done.result()
