"""How much memory this process and the workers that it has started hold, as Linux tells."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_PAGE = os.sysconf("SC_PAGE_SIZE")
_MOST_PROCESSES = 1000


class Memory(NamedTuple):
    """Resident bytes, those that processes share counted in each; and of how many processes."""

    bytes: int = 0
    processes: int = 0


def memory_of_processes(process: int | None = None) -> Memory:
    """Of a process, by default this one, and all that it has started; nothing without /proc."""
    total = count = 0
    for number in _with_children(process or os.getpid()):
        with suppress(OSError, ValueError, IndexError):  # it has ended
            total += int(Path(f"/proc/{number}/statm").read_text().split()[1]) * _PAGE
            count += 1
    return Memory(total, count)


def _with_children(process: int) -> Iterator[int]:
    waiting = [process]
    for _ in range(_MOST_PROCESSES):
        if not waiting:
            return
        number = waiting.pop()
        yield number
        waiting += _children(number)


def _children(process: int) -> list[int]:
    """Those that any thread of a process has started."""
    children = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{process}/task"):
            with suppress(OSError):
                path = Path(f"/proc/{process}/task/{thread}/children")
                children += [int(number) for number in path.read_text().split()]
    return children
