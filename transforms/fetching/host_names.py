"""The jobs that wait for their host's name, and where names lead, each kept for its TTL."""

from __future__ import annotations

import heapq
import itertools
import re
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from alignset.transforms.fetching.host_queue import FetchJob
from alignset.transforms.fetching.name_questions import NameQuestions, Told

MOST_KEPT = 100_000  # names with their addresses, 300 bytes each
# A name server that answers nothing for any name is what is silent, not the names: they are waited
# for so long.
PATIENCE_S = 60.0
# What ends in a number is an address in one of its forms, as the WHATWG's rules have it.
_ADDRESS = re.compile(r"\[.*|(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?")


class _Known(NamedTuple):
    """Where a name leads: until when that holds, and addresses as curl takes them, or "dns"."""

    until: float
    addresses: str
    detail: str | None


class _Waiting(NamedTuple):
    job: FetchJob
    since: float
    least_s: float  # for which it waits, and longer where the name server is silent
    until: float


class HostNames:
    """The jobs that wait for their host's name, and the answers.

    A job that waits is in `_waiting` under its name, and there alone, until `finished_jobs` or
    `remove` gives it away. The heaps and queues beside it hold names, for which nobody may wait
    any more.

    Args:
      timeout_s: how long a name is waited for.
      watch: told which socket is to be watched, for which of epoll's events; 0: no more.

    Attributes:
      ended_count, unanswered_count: names that were looked up, and names that the name server did
        not resolve or reject.
    """

    def __init__(self, timeout_s: float, watch: Callable[[int, int], None]) -> None:
        self._timeout_s = timeout_s
        self._questions = NameQuestions(timeout_s / 2, watch, self._put)
        self.process, self.close = self._questions.process, self._questions.close
        self._entries: OrderedDict[str, _Known] = OrderedDict()
        self._waiting: dict[str, list[_Waiting]] = {}
        # A heap of when which name is waited for no more, with those that have an answer by now.
        self._untils: list[tuple[float, int, str]] = []
        self._numbers = itertools.count()
        self._count = 0  # of the jobs that wait
        self._ready_names: deque[str] = deque()  # names with an answer that was not told yet
        self.ended_count = self.unanswered_count = 0
        self.sockets = self._questions.sockets

    def __len__(self) -> int:
        return self._count

    def entry(self, job: FetchJob) -> str | None:
        """Options that pass a job's addresses to curl; empty for an address; None where they are
        not known."""
        name, _, port = job.authority.partition(":")  # with its last dot, by which curl looks
        if _ADDRESS.fullmatch(name):
            return ""
        entry = self._entries.get(job.host)
        if entry is None or entry.until <= time.monotonic() or entry.detail:
            return None
        return f"+{name}:{port or (443 if job.url.startswith('https') else 80)}:{entry.addresses}"

    def add(self, job: FetchJob) -> None:
        """Lets a job wait for its name, which is looked up unless it is already."""
        # With its port: a name whose answers may not be kept is asked for anew on another.
        name, now = job.host, time.monotonic()
        least_s = min(self._timeout_s, job.left_s)
        self._wait(name, _Waiting(job, now, least_s, now + least_s))
        self._count += 1
        entry = self._entries.get(name)
        if entry is not None and entry.until > now:  # a failure that was just told
            self._ready_names.append(name)
        elif name not in self._questions:
            self._questions.ask(name)

    def _wait(self, name: str, waiting: _Waiting) -> None:
        self._waiting.setdefault(name, []).append(waiting)
        heapq.heappush(self._untils, (waiting.until, next(self._numbers), name))

    def _put(self, name: str, answer: Told) -> None:
        self.ended_count += 1
        self.unanswered_count += answer.unsure
        self._entries.pop(name, None)
        detail = None if answer.addresses else "dns"
        self._entries[name] = _Known(time.monotonic() + answer.kept_s, answer.addresses, detail)
        if len(self._entries) > MOST_KEPT:
            self._entries.popitem(last=False)
        self._ready_names.append(name)

    def finished_jobs(self) -> Iterator[tuple[FetchJob, float, str | None]]:
        """The jobs that wait no longer: for how long they did, and the detail where their name was
        not found."""
        now = time.monotonic()
        self._questions.turn(self._waiting)
        while self._ready_names:
            name = self._ready_names.popleft()
            entry = self._entries.get(name)
            jobs = self._waiting.pop(name, [])
            self._count -= len(jobs)
            for waiting in jobs:
                waited_s = min(now - waiting.since, self._timeout_s)
                yield waiting.job, waited_s, entry.detail if entry else "dns"
        while self._untils and self._untils[0][0] <= now:
            yield from self._late(heapq.heappop(self._untils)[2], now)

    def _late(self, name: str, now: float) -> Iterator[tuple[FetchJob, float, str]]:
        """Those of a name's jobs that have waited long enough, while the name server spoke."""
        if name in self._waiting and self._questions.settle(name):
            return
        silence, jobs = self._questions.silence, self._waiting.pop(name, [])
        silent = silence.lasts(now)
        detail = "dns" if self._questions.could_not_tell(name) else "timeout"
        for waiting in jobs:
            until = waiting.least_s + (now if silent else max(waiting.since, silence.spoke_again))
            if waiting.until > now:
                self._waiting.setdefault(name, []).append(waiting)
            elif until > now and now - waiting.since < PATIENCE_S:
                self._wait(name, waiting._replace(until=until))
            else:
                self._count -= 1
                yield waiting.job, min(now - waiting.since, self._timeout_s), detail
        if jobs and name not in self._waiting:
            self._questions.forget(name)
            self.ended_count += 1
            self.unanswered_count += 1

    def waiting_since(self, before: float) -> int:
        """How many jobs have waited since a time or longer."""
        return sum(job.since < before for jobs in self._waiting.values() for job in jobs)

    def due_s(self) -> float:
        """When something is to be looked at even if no socket tells: seconds."""
        if self._ready_names:
            return 0.0
        dues = [self._questions.due(), *(due for due, *_ in self._untils[:1])]
        return max(0.001, min(dues) - time.monotonic())

    def remove(self, is_meant: Callable[[FetchJob], bool]) -> list[FetchJob]:
        """Removes the jobs that wait."""
        removed_jobs: list[FetchJob] = []
        for name, jobs in list(self._waiting.items()):
            removed_jobs += [waiting.job for waiting in jobs if is_meant(waiting.job)]
            jobs[:] = [waiting for waiting in jobs if not is_meant(waiting.job)]
            if not jobs:
                del self._waiting[name]
        self._count -= len(removed_jobs)
        return removed_jobs
