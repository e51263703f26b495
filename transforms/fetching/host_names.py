"""Hosts' names, looked up by c-ares: thousands at once on one thread, each kept for its TTL.

The system's `getaddrinfo` needs a thread for each name, and a silent name server holds it for 10 to
40 s. c-ares has its own sockets, which the fetcher's loop watches beside those of curl; it reads
/etc/resolv.conf and /etc/hosts as the system does.

Two of its answers mean little. It gives a name up by the mean time of former answers, 0.25 s after
those that came within milliseconds. So its time-outs are no verdict: the name is asked for again in
a channel of its own for slow names, whose mean is theirs, for as long as somebody waits. And it
says that there is no address where a name lacks those of one kind and the question for the other
was lost: so each kind is then asked for by itself.
"""

from __future__ import annotations

import heapq
import itertools
import math
import re
import select
import socket
import time
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pycares

from transforms.fetching.host_queue import Job
from transforms.workers.unexpected import tell_once

SERVERS: list[str] = []  # in place of those of /etc/resolv.conf
MOST_KEPT = 100_000  # names with their addresses, 300 bytes each
_MOST_ADDRESSES = 64  # of a name, in the order of the answer, which may have 4,000
_LEAST_KEPT_S, _LONGEST_KEPT_S = 1.0, 3600.0  # whatever the TTL says
_FAILED_KEPT_S = 10.0
# A name server that answers nothing for any name is what is silent, not the names: they are waited
# for so long.
PATIENCE_S = 60.0
_PROBED_S = 1.0
_TRIES = 1, 2  # of the channel that a name is asked for in first, and of that for slow names
_AGAIN_S = 0.5  # until c-ares is asked anew
# What ends in a number is an address in one of its forms, as the WHATWG's rules have it.
_ADDRESS = re.compile(r"\[.*|(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?")
_UNSORTED = 1 << 7  # ARES_AI_NOSORT: curl tries IPv6 and IPv4 side by side; sorting costs sockets
_RECEIVED = 1 << 22  # bytes of answers that wait for this thread
_NEXT_FAMILY = {socket.AF_UNSPEC: socket.AF_INET, socket.AF_INET: socket.AF_INET6}
_UNHEARD = frozenset({pycares.errno.ARES_ECONNREFUSED, pycares.errno.ARES_ETIMEOUT})
_NO_ANSWER = _UNHEARD | {pycares.errno.ARES_ECANCELLED}
Family = socket.AddressFamily


class _Known(NamedTuple):
    """Where a name leads: until when that holds, and addresses as curl takes them, or "dns"."""

    until: float
    addresses: str
    detail: str | None


class _Waiting(NamedTuple):
    job: Job
    since: float
    least_s: float  # for which it waits, and longer where the name server is silent
    until: float


class HostNames:
    """The jobs that wait for their host's name, and the answers.

    Args:
      timeout_s: how long a name is waited for.
      watch: told which socket is to be watched, for which of epoll's events; 0: no more.

    Attributes:
      ended_count, unanswered_count: names that were looked up, and those of which the name server
        said nothing, or that it cannot tell.
    """

    def __init__(self, timeout_s: float, watch: Callable[[int, int], None]) -> None:
        self._timeout_s, self._watch = timeout_s, watch
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._waiting: dict[str, list[_Waiting]] = {}
        self._asked: dict[str, int] = {}  # names, with the number of their latest question
        self._again: list[tuple[float, str]] = []  # a heap of when which of them are asked anew
        # A heap of when which name is waited for no more, with those that have an answer by now.
        self._untils: list[tuple[float, int, str]] = []
        self._numbers = itertools.count()
        self._count = 0  # of the jobs that wait
        self._answered: deque[str] = deque()  # names with an answer that was not told yet
        # When the name server said anything, was probed, and spoke again after a silence.
        self._heard = self._probed = self._spoke_again = -math.inf
        self._silent_since = math.inf
        self._all_again = False
        self.ended_count = self.unanswered_count = 0
        self.sockets: dict[int, pycares.Channel] = {}
        self._channels = [self._channel(tries) for tries in _TRIES]

    def _channel(self, tries: int) -> pycares.Channel:
        def told(fd: int, readable: bool, writable: bool) -> None:
            self.sockets[fd] = channel
            if not (events := select.EPOLLIN * readable | select.EPOLLOUT * writable):
                del self.sockets[fd]
            self._watch(fd, events)

        servers, size = SERVERS or None, _RECEIVED
        channel = pycares.Channel(
            sock_state_cb=told, servers=servers, tries=tries, socket_receive_buffer_size=size
        )
        return channel

    def __len__(self) -> int:
        return self._count

    def process(self, fd: int, events: int) -> None:
        """Reads and writes what a socket is ready for."""
        bad = pycares.ARES_SOCKET_BAD
        written = fd if events & select.EPOLLOUT else bad
        self.sockets[fd].process_fd(fd if events & ~select.EPOLLOUT else bad, written)

    def entry(self, job: Job) -> str | None:
        """What tells curl where a job's name leads; empty for an address; None where that is not
        known."""
        name, _, port = job.host.partition(":")
        if _ADDRESS.fullmatch(name):
            return ""
        known = self._known.get(job.host)
        if known is None or known.until <= time.monotonic() or known.detail:
            return None
        return f"+{name}:{port or (443 if job.url.startswith('https') else 80)}:{known.addresses}"

    def add(self, job: Job) -> None:
        """Lets a job wait for its name, which is looked up unless it is already."""
        # With its port: a name whose answers may not be kept is asked for anew on another.
        name, now = job.host, time.monotonic()
        least_s = min(self._timeout_s, job.left_s)
        self._wait(name, _Waiting(job, now, least_s, now + least_s))
        self._count += 1
        known = self._known.get(name)
        if known is not None and known.until > now:  # a failure that was just told
            self._answered.append(name)
        elif name not in self._asked:
            self._ask(name)

    def _wait(self, name: str, waiting: _Waiting) -> None:
        self._waiting.setdefault(name, []).append(waiting)
        heapq.heappush(self._untils, (waiting.until, next(self._numbers), name))

    def _ask(self, name: str, family: Family = socket.AF_UNSPEC, slow: bool = False) -> None:
        number = self._asked[name] = next(self._numbers)

        def told(result: Any, error: int | None) -> None:
            try:
                is_latest = self._asked.get(name) == number
                if error in _UNHEARD and is_latest:
                    heapq.heappush(self._again, (time.monotonic() + _AGAIN_S * slow, name))
                elif error not in _NO_ANSWER:
                    self._hear()
                    if is_latest or error is None:  # a later question may be answered better
                        self._told(name, family, result, error)
            except Exception as raised:  # it would be lost within c-ares
                tell_once("reading a name server's answer", raised)
                self._put(name, "", _FAILED_KEPT_S)

        plain, kind = name.partition(":")[0], socket.SOCK_STREAM
        try:
            self._channels[slow].getaddrinfo(
                plain, None, family=family, type=kind, flags=_UNSORTED, callback=told
            )
        except Exception as error:  # a name that is none to c-ares
            tell_once("asking for a name", error)
            self._put(name, "", _FAILED_KEPT_S)

    def _told(self, name: str, family: Family, result: Any, error: int | None) -> None:
        """What the name server says."""
        if error == pycares.errno.ARES_ENODATA and family in _NEXT_FAMILY:
            self._ask(name, _NEXT_FAMILY[family], slow=True)
            return
        if error is not None:
            self.unanswered_count += error == pycares.errno.ARES_ESERVFAIL
            self._put(name, "", _FAILED_KEPT_S)
            return
        addresses = [node.addr[0].decode() for node in result.nodes[:_MOST_ADDRESSES]]
        ttl_s = min([record.ttl for record in (*result.nodes, *result.cnames)], default=0)
        shown = ",".join(f"[{address}]" if ":" in address else address for address in addresses)
        self._put(name, shown, min(_LONGEST_KEPT_S, max(_LEAST_KEPT_S, ttl_s)))

    def _put(self, name: str, addresses: str, kept_s: float) -> None:
        self.ended_count += 1
        self._asked.pop(name, None)
        self._known.pop(name, None)
        detail = None if addresses else "dns"
        self._known[name] = _Known(time.monotonic() + kept_s, addresses, detail)
        if len(self._known) > MOST_KEPT:
            self._known.popitem(last=False)
        self._answered.append(name)

    def _hear(self) -> None:
        now = time.monotonic()
        if self._is_silent(now):
            self._spoke_again, self._all_again = now, True
        self._heard, self._silent_since = now, math.inf

    def _is_silent(self, now: float) -> bool:
        """Whether the name server says nothing at all, though it was probed a while ago."""
        return now - self._silent_since >= self._timeout_s / 2

    def _probe(self, now: float) -> None:
        """Asks for a name that there never is, which each name server knows: whether it lives."""
        if now - max(self._probed, self._heard) < _PROBED_S:
            return

        def told(_: Any, error: int | None) -> None:
            if error not in _NO_ANSWER:
                self._hear()

        slow = self._silent_since < math.inf
        self._probed, self._silent_since = now, min(now, self._silent_since)
        name = f"{uuid.uuid4().hex}.invalid"
        self._channels[slow].query(name, pycares.QUERY_TYPE_A, callback=told)

    def ended(self) -> Iterator[tuple[Job, float, str | None]]:
        """The jobs that wait no longer: for how long they did, and the detail where their name was
        not found."""
        now = time.monotonic()
        if self._asked:
            self._probe(now)
            # For c-ares' own time-outs; it looks at no socket.
            for channel in self._channels:
                channel.process_fd(pycares.ARES_SOCKET_BAD, pycares.ARES_SOCKET_BAD)
        if self._all_again:  # c-ares would wait for twice as long as before its last try
            self._all_again = False
            self._again = [(now, name) for name in self._asked]
        while self._again and self._again[0][0] <= now:
            name = heapq.heappop(self._again)[1]
            if name in self._waiting:
                self._ask(name, slow=True)
            else:
                self._asked.pop(name, None)
        while self._answered:
            name = self._answered.popleft()
            known = self._known.get(name)
            jobs = self._waiting.pop(name, [])
            self._count -= len(jobs)
            for waiting in jobs:
                waited_s = min(now - waiting.since, self._timeout_s)
                yield waiting.job, waited_s, known.detail if known else "dns"
        while self._untils and self._untils[0][0] <= now:
            yield from self._late(heapq.heappop(self._untils)[2], now)

    def _late(self, name: str, now: float) -> Iterator[tuple[Job, float, str]]:
        """Those of a name's jobs that have waited long enough, while the name server spoke."""
        silent, jobs = self._is_silent(now), self._waiting.pop(name, [])
        for waiting in jobs:
            until = waiting.least_s + (now if silent else max(waiting.since, self._spoke_again))
            if waiting.until > now:
                self._waiting.setdefault(name, []).append(waiting)
            elif until > now and now - waiting.since < PATIENCE_S:
                self._wait(name, waiting._replace(until=until))
            else:
                self._count -= 1
                yield waiting.job, min(now - waiting.since, self._timeout_s), "timeout"
        if jobs and name not in self._waiting:
            self._asked.pop(name, None)
            self.ended_count += 1
            self.unanswered_count += 1

    def waiting_since(self, before: float) -> int:
        """How many jobs have waited since a time or longer."""
        return sum(job.since < before for jobs in self._waiting.values() for job in jobs)

    def due_s(self) -> float:
        """When something is to be looked at even if no socket tells: seconds."""
        if self._answered:
            return 0.0
        dues = [due for due, *_ in self._untils[:1]] + [due for due, _ in self._again[:1]]
        due_s = min(dues, default=math.inf) - time.monotonic()
        if self._asked:  # c-ares has time-outs of its own
            for channel in self._channels:
                due_s = min(due_s, channel.timeout(1.0))  # type: ignore[no-untyped-call]
            probe_s = max(self._probed, self._heard) + _PROBED_S - time.monotonic()
            due_s = min(due_s, probe_s)
        return max(0.001, due_s)

    def remove(self, is_meant: Callable[[Job], bool]) -> list[Job]:
        """Takes those of the jobs that wait."""
        removed: list[Job] = []
        for name, jobs in list(self._waiting.items()):
            removed += [waiting.job for waiting in jobs if is_meant(waiting.job)]
            jobs[:] = [waiting for waiting in jobs if not is_meant(waiting.job)]
            if not jobs:
                del self._waiting[name]
        self._count -= len(removed)
        return removed

    def close(self) -> None:
        self._watch = lambda fd, events: None  # c-ares closes its sockets later, on another thread
        for channel in self._channels:
            channel.close()
