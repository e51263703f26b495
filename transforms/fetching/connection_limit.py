"""How many connections are open at once: as many as answers come from, and no more; and a bound on
the bytes of responses in a process, whatever the number of connections.

Connections that have brought nothing for a while are not counted: they use no bandwidth, cores or
memory. Otherwise the silent hosts of an old list would hold all places, each for as long as a
time-out.
"""

from __future__ import annotations

import logging
import math
import os
import resource
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import ClassVar, Protocol

LOG = logging.getLogger("alignset")
FIRST = 128  # as many as a small line and a small name server bear; from here it rises
_LEAST = 16
_SHORTEST_S, _LONGEST_S = 0.5, 2.0  # between two reviews
_HELD_S = 5.0  # before a limit that was found is tried again
_FALL, _RISE, _RISE_OF_STALLED = 0.7, 1.1, 1.5
LEAST_STALLED_S, _STALLED_TIMES = 2.0, 4.0  # without a byte, and times as long as answers take
_GROWN = 1.4  # times as many connections: then it is asked whether they brought more
_GAIN = 0.2  # of what as many more connections should have brought, at least
_MIN_ANSWERS = 20  # in an interval, to conclude anything
_BUSY = 0.9  # of the cores that this process may use
_SLOWLY = frozenset({"bandwidth", "time-outs", "name server", "memory"})  # risen from step by step
# Shares that are the web's own, as old lists have them; beyond, it is the line or the name server.
_USUAL_TROUBLES, _USUAL_UNNAMED = 0.05, 0.15
# Files that a process asks for, where the system lets it; those that shards, logs, the runner and
# name servers need; and sockets: fewer are told of.
_WANTED, _SPARE, _FEW = 16_384, 64, 256
_has_told = False


@dataclass(slots=True)
class Interval:
    """Events since the last review.

    Attributes:
      seconds: how long it was.
      most: connections that were in use at once, at most, without those that stalled.
      stalled: connections that have brought nothing for long, at the end.
      answers: what came, whatever its status; answer_s: the seconds that all of them took.
      troubles: time-outs and lost connections of hosts that have answered before.
      names: those that were looked up; unnamed: those that the name server did not answer for, or
        could not.
      wanted: whether further URLs would have begun, had more been allowed.
      short_of_memory: whether answers had to wait for memory.
      behind: whether who looks at images is behind, or this thread itself is.
      cpu_share: of the cores that this process may use.
    """

    seconds: float = 0.0
    most: int = 0
    stalled: int = 0
    answers: int = 0
    answer_s: float = 0.0
    troubles: int = 0
    names: int = 0
    unnamed: int = 0
    wanted: bool = False
    short_of_memory: bool = False
    behind: bool = False
    cpu_share: float = 0.0


class ConnectionLimit:
    """The limit, which rises with each answer while that brings more, and falls where something
    else than the number of connections is what limits.

    By Little's law as many are needed as answers come a second, times the seconds that an answer
    takes where nothing queues; twice that leaves room for slow ones.

    Args:
      cap: of the user. sockets: that this process may open.

    Attributes:
      now: the limit, of those that are not stalled.
      ceiling: of all.
      limited_by: in words, as docs/operations.md lists them; "rising" where nothing does yet.

    Source: Little (1961); Chiu and Jain (1989) for rising by addition and falling by a factor.
    """

    def __init__(self, cap: int, sockets: int) -> None:
        self.ceiling = min(cap, sockets)
        self._above = "--connections" if cap <= sockets else "open files"
        self.now = min(FIRST, self.ceiling)
        self.limited_by = "rising"
        self._rising = True  # with each answer
        self._quickest_s = math.inf
        self._before: tuple[int, float] | None = None  # connections, and answers a second
        self._in_vain = 0
        self._held_s = 0.0
        self._troubles, self._usual_unnamed = _USUAL_TROUBLES, _USUAL_UNNAMED

    @property
    def review_s(self) -> float:
        """Seconds from one review to the next: answers to what has begun must be in it."""
        if self._quickest_s == math.inf:
            return _SHORTEST_S
        return min(_LONGEST_S, max(_SHORTEST_S, 1.5 * self._quickest_s))

    @property
    def stalled_s(self) -> float:
        """Seconds without a byte after which a connection is not counted."""
        if self._quickest_s == math.inf:
            return LEAST_STALLED_S
        return max(LEAST_STALLED_S, _STALLED_TIMES * self._quickest_s)

    def note_answer(self) -> None:
        """An answer came: in its place two may begin, while the limit rises."""
        if self._rising and self.now < self.ceiling:
            self.now += 1

    def review(self, interval: Interval) -> None:
        """Draws the conclusions of an interval."""
        self._held_s = max(0.0, self._held_s - interval.seconds)
        if interval.answers >= _MIN_ANSWERS:
            self._quickest_s = min(1.002 * self._quickest_s, interval.answer_s / interval.answers)
        if trouble := self._trouble(interval):
            self._rising, self.limited_by = False, trouble
            if not self._held_s:
                self._fall(_FALL * self.now)
        elif interval.behind or interval.cpu_share >= _BUSY:
            self._rising, self.limited_by = False, "CPU"
            self._fall(max(0.9 * self.now, self._needed_connections(interval)), held_s=0.0)
        elif not interval.wanted:
            self._rising, self.limited_by = False, "hosts"
        elif self.now >= self.ceiling:
            self.limited_by = self._above
        elif not self._held_s:
            self._rise(interval)

    def _trouble(self, interval: Interval) -> str:
        if interval.short_of_memory:
            return "memory"
        all_ended = interval.answers + interval.troubles
        if all_ended >= _MIN_ANSWERS:
            share = interval.troubles / all_ended
            if share > 2 * self._troubles + 0.05:
                return "time-outs"
            self._troubles += 0.1 * (share - self._troubles)
        if interval.names >= _MIN_ANSWERS:
            share = interval.unnamed / interval.names
            if share > 2 * self._usual_unnamed + 0.1:
                return "name server"
            self._usual_unnamed += 0.1 * (share - self._usual_unnamed)
        return ""

    def _needed_connections(self, interval: Interval) -> float:
        if interval.answers < _MIN_ANSWERS or self._quickest_s == math.inf:
            return float(self.now)
        return 2 * interval.answers / interval.seconds * self._quickest_s

    def _fall(self, to: float, held_s: float = _HELD_S) -> None:
        self.now = min(self.now, max(min(_LEAST, self.ceiling), int(to)))
        self._before, self._in_vain, self._held_s = None, 0, held_s

    def _rise(self, interval: Interval) -> None:
        rate = interval.answers / interval.seconds
        if self._before is None:
            self._before = interval.most, rate
        elif interval.most >= _GROWN * self._before[0]:
            grown = interval.most / max(1, self._before[0])
            enough = rate >= self._before[1] * (1 + _GAIN * (grown - 1))
            self._in_vain = 0 if enough else self._in_vain + 1
            self._before = interval.most, rate
            if enough:
                self.limited_by = "rising"
        if self._in_vain >= 2:
            self._rising, self.limited_by = False, "bandwidth"
            self._fall(self._needed_connections(interval))
        elif self.limited_by in _SLOWLY:
            self.now = min(self.ceiling, math.ceil(_RISE * self.now))
        else:
            self._rising, self.limited_by = True, "rising"
            # No answer lets it rise, and good hosts wait behind them.
            if interval.stalled >= interval.most:
                self.now = min(self.ceiling, math.ceil(_RISE_OF_STALLED * self.now))


def socket_limit(connections: int) -> int:
    """How many sockets may be open at once; at least one.

    The soft limit is raised to the hard one, as far as that is of use. Where few are left, one line
    says so, once.

    Args:
      connections: what the user allows.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _WANTED:
        higher = _WANTED if hard == resource.RLIM_INFINITY else min(hard, _WANTED)
        if higher > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (higher, hard))
            soft = higher
    most = connections if soft == resource.RLIM_INFINITY else soft - _open_now() - _SPARE
    _tell(min(_FEW, connections), max(1, most), soft)
    return max(1, min(most, 2 * connections + _SPARE))


def _open_now() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:  # no such folder, or no descriptor left to look into it
        return _SPARE


def _tell(few: int, most: int, files: int) -> None:
    global _has_told
    if most < few and not _has_told:
        _has_told = True
        line = "this process may open %d files, so at most %d connections at once: ulimit -n %d"
        LOG.warning(line, files, most, _WANTED)


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

    One transfer that is held back continues even so, until it ends: so all end in their turn. At
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
