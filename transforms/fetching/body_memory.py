"""A bound on the bytes of responses in a process, whatever the number of connections; and the cores
and memory that the process may use, by Linux's control groups."""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import ClassVar, Protocol

CGROUPS = Path("/sys/fs/cgroup")


def usable_cores() -> float:
    """Cores that this process may keep busy: those that it is bound to, or the quota of its
    container, which may be a part of one."""
    cores = float(len(os.sched_getaffinity(0)))
    quotas = [
        _numbers("cpu.max"),  # version 2, else version 1
        [*_numbers("cpu/cpu.cfs_quota_us"), *_numbers("cpu/cpu.cfs_period_us")],
    ]
    shares = [quota[0] / quota[1] for quota in quotas if len(quota) == 2 and min(quota) > 0]
    return min(cores, *shares) if shares else cores


def usable_memory() -> int:
    """Bytes that this machine has, or that its container may take."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = _numbers("memory.max") + _numbers("memory/memory.limit_in_bytes")
    return min(memory, *limits) if limits else memory


def _numbers(name: str) -> list[int]:
    """Those in a file of the control group; none where it is not there, or says "max"."""
    with suppress(OSError, ValueError):
        return [int(word) for word in (CGROUPS / name).read_text().split()]
    return []


MOST_HELD = 1 << 29  # bytes, at most; less where the machine has less than four times that


def memory_for_bodies() -> int:
    """Bytes that answers may take: a quarter of what this process may have, MOST_HELD at most."""
    return min(MOST_HELD, usable_memory() // 4)


class Receiver(Protocol):
    """A transfer that can be continued."""

    def resume(self) -> None:
        """Continues its response."""


class TakenBytes:
    """The bytes of answers that one caller has taken of the fetcher and not looked at yet. Those of
    all callers count as the fetcher's own. For all threads.

    Attributes:
      of_all: bytes of all callers of this process.
    """

    of_all: ClassVar[int] = 0
    _lock: ClassVar[Lock] = Lock()

    def __init__(self) -> None:
        self._size = 0

    def __enter__(self) -> TakenBytes:
        return self

    def __exit__(self, *_: object) -> None:
        self.add(-self._size)

    def add(self, size: int) -> None:
        """Counts bytes that were taken; negative: that were looked at."""
        with TakenBytes._lock:
            self._size += size
            TakenBytes.of_all += size


os.register_at_fork(after_in_child=lambda: setattr(TakenBytes, "of_all", 0))  # the parent's


class BodyMemory:
    """Counts bytes, and holds transfers back where the memory is full.

    One of those that are held back goes on even so, until it ends: so all end in their turn. At
    most `most` bytes are held, and that one's.

    Attributes:
      held_bytes: bytes of transfers under way, and of what is done and not yet looked at.
      unseen: the latter alone, which the user sets.
      was_short: whether anything was held back since it was last set to False, though most was of
        transfers under way.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._under_way = self.unseen = 0
        self._first: Receiver | None = None
        self._held_back: deque[Receiver] = deque()
        self.was_short = False

    @property
    def held_bytes(self) -> int:
        return self._under_way + self.unseen

    @property
    def has_room(self) -> bool:
        """Whether further transfers may begin."""
        # What is not looked at yet keeps decoders busy for seconds: more of it is of no use.
        return self.held_bytes < self._most // 2 and self.unseen < self._most // 4

    @property
    def waits_for_callers(self) -> bool:
        """Whether it is rather callers that are to be waited for."""
        return self.unseen >= min(self._under_way + 1, self._most // 4)

    def admits(self, receiver: Receiver, size: int) -> bool:
        """Counts bytes that have come; or says that the transfer must wait, and be resumed."""
        if self.held_bytes + size > self._most and self._first is not receiver:
            self.was_short |= not self.waits_for_callers
            if self._first is not None:
                self._held_back.append(receiver)
                return False
            self._first = receiver
        self._under_way += size
        return True

    def note_end(self, receiver: Receiver, size: int) -> None:
        """A transfer is over, with so many bytes counted."""
        self._under_way -= size
        if self._first is receiver:
            self._first = None
        if receiver in self._held_back:
            self._held_back.remove(receiver)

    def resume(self) -> None:
        """Continues the transfers that fit into memory now, in order."""
        waiting, self._held_back = self._held_back, deque()
        while waiting:
            if self._first is not None and not self.has_room:
                self._held_back = waiting + self._held_back
                return
            waiting.popleft().resume()

    @property
    def holds_back(self) -> bool:
        return bool(self._held_back)
