"""Hosts' names, looked up by c-ares: thousands at once on one thread, each kept for its TTL.

The system's `getaddrinfo` needs a thread for each name, and a silent name server holds it for 10 to
40 s. c-ares has its own sockets, which the fetcher's loop watches beside those of curl; it reads
/etc/resolv.conf and /etc/hosts as the system does.
"""

from __future__ import annotations

import heapq
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
_LEAST_KEPT_S, _LONGEST_KEPT_S = 1.0, 3600.0  # whatever the TTL says
_FAILED_KEPT_S = 10.0
# A name server that answers nothing for any name is what is silent, not the names: they are asked
# for again for so long.
PATIENCE_S = 60.0
_PROBED_S = 1.0
# What ends in a number is an address in one of its forms, as the WHATWG's rules have it.
_ADDRESS = re.compile(r"\[.*|(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?")
_UNSORTED = 1 << 7  # ARES_AI_NOSORT: curl tries IPv6 and IPv4 side by side; sorting costs sockets
_RECEIVED = 1 << 22  # bytes of answers that wait for this thread
_ASKS_AGAIN = frozenset({pycares.errno.ARES_ECONNREFUSED, pycares.errno.ARES_ETIMEOUT})


class _Known(NamedTuple):
    """Where a name leads: until when that holds, and addresses as curl takes them, or a detail."""

    until: float
    addresses: str
    detail: str | None


class _Waiting(NamedTuple):
    job: Job
    since: float
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
        self._asked: dict[str, float] = {}  # since when
        self._untils: list[float] = []  # a heap, with those of jobs that wait no longer
        self._count = 0  # of the jobs that wait
        self._found: deque[str] = deque()  # names with an answer
        # When the name server said anything, when it was probed last, and first without an answer.
        self._heard = self._probed = -math.inf
        self._silent_since: float | None = None
        self._revived = False
        self.ended_count = self.unanswered_count = 0
        self.sockets: set[int] = set()
        self._channel = pycares.Channel(
            sock_state_cb=self._socket,
            servers=SERVERS or None,
            socket_receive_buffer_size=_RECEIVED,
        )

    def __len__(self) -> int:
        return self._count

    def _socket(self, fd: int, readable: bool, writable: bool) -> None:
        events = select.EPOLLIN * readable | select.EPOLLOUT * writable
        (self.sockets.add if events else self.sockets.discard)(fd)
        self._watch(fd, events)

    def process(self, fd: int, events: int) -> None:
        """Reads and writes what a socket is ready for."""
        bad = pycares.ARES_SOCKET_BAD
        written = fd if events & select.EPOLLOUT else bad
        self._channel.process_fd(fd if events & ~select.EPOLLOUT else bad, written)

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
        until = now + min(self._timeout_s, job.left_s)
        self._waiting.setdefault(name, []).append(_Waiting(job, now, until))
        heapq.heappush(self._untils, until)
        self._count += 1
        known = self._known.get(name)
        if known is not None and known.until > now:  # a failure that was just told
            self._found.append(name)
        elif name not in self._asked:
            self._asked[name] = now
            self._ask(name)

    def _ask(self, name: str) -> None:
        def told(result: Any, error: int | None) -> None:
            try:
                self._told(name, result, error)
            except Exception as raised:  # it would be lost within c-ares
                tell_once("reading a name server's answer", raised)
                self._put(name, "", "dns", _FAILED_KEPT_S)

        kind, flags = socket.SOCK_STREAM, _UNSORTED
        try:
            self._channel.getaddrinfo(
                name.partition(":")[0], None, type=kind, flags=flags, callback=told
            )
        except Exception as error:  # a name that is none to c-ares
            tell_once("asking for a name", error)
            self._put(name, "", "dns", _FAILED_KEPT_S)

    def _told(self, name: str, result: Any, error: int | None) -> None:
        """What c-ares has found."""
        if error == pycares.errno.ARES_ECANCELLED:
            return
        now = time.monotonic()
        if error in _ASKS_AGAIN:
            if name in self._waiting and self._is_silent(self._asked.get(name, now)):
                return  # asked again when its time is over
            self.unanswered_count += 1
            detail = "timeout" if error == pycares.errno.ARES_ETIMEOUT else "dns"
            self._put(name, "", detail, _FAILED_KEPT_S)
            return
        self._hear(now)
        if error is not None:
            self.unanswered_count += error == pycares.errno.ARES_ESERVFAIL
            self._put(name, "", "dns", _FAILED_KEPT_S)
            return
        addresses = [node.addr[0].decode() for node in result.nodes]
        ttl_s = min([one.ttl for one in (*result.nodes, *result.cnames)], default=0)
        shown = ",".join(f"[{one}]" if ":" in one else one for one in addresses)
        kept_s = min(_LONGEST_KEPT_S, max(_LEAST_KEPT_S, ttl_s))
        self._put(name, shown, None if shown else "dns", kept_s)

    def _put(self, name: str, addresses: str, detail: str | None, kept_s: float) -> None:
        self.ended_count += 1
        self._asked.pop(name, None)
        self._known.pop(name, None)
        self._known[name] = _Known(time.monotonic() + kept_s, addresses, detail)
        if len(self._known) > MOST_KEPT:
            self._known.popitem(last=False)
        self._found.append(name)

    def _hear(self, now: float) -> None:
        self._revived |= self._is_silent(now)
        self._heard, self._silent_since = now, None

    def _begin_again(self, now: float) -> None:
        """After a silence of the name server: all that waits is asked for anew, in full time."""
        self._untils.clear()
        for name, jobs in self._waiting.items():
            jobs[:] = [one._replace(until=now + self._timeout_s) for one in jobs]
            self._untils += [one.until for one in jobs]
            if name in self._asked:
                self._ask_again(name, now)
        self._revived = False

    def _is_silent(self, since: float) -> bool:
        """Whether the name server has said nothing at all since then, though it was probed."""
        if self._heard >= since or self._silent_since is None:
            return False
        return time.monotonic() - self._silent_since >= min(_PROBED_S, self._timeout_s / 4)

    def _probe(self, now: float) -> None:
        """Asks for a name that there never is, which each name server knows: whether it lives."""
        if now - max(self._probed, self._heard) < _PROBED_S:
            return

        def told(_: Any, error: int | None) -> None:
            if error not in _ASKS_AGAIN and error != pycares.errno.ARES_ECANCELLED:
                self._hear(time.monotonic())

        self._probed = now
        if self._silent_since is None:
            self._silent_since = now
        name = f"{uuid.uuid4().hex}.invalid"
        self._channel.query(name, pycares.QUERY_TYPE_A, callback=told)

    def ended(self) -> Iterator[tuple[Job, float, str | None]]:
        """The jobs that wait no longer: for how long they did, and the detail where their name was
        not found."""
        now = time.monotonic()
        if self._asked:
            self._probe(now)
            # For c-ares' own time-outs; it looks at no socket.
            self._channel.process_fd(pycares.ARES_SOCKET_BAD, pycares.ARES_SOCKET_BAD)
        while self._found:
            name = self._found.popleft()
            known = self._known.get(name)
            jobs = self._waiting.pop(name, [])
            self._count -= len(jobs)
            for waiting in jobs:
                waited_s = min(now - waiting.since, self._timeout_s)
                yield waiting.job, waited_s, known.detail if known else "dns"
        if self._revived:
            self._begin_again(now)
        if self._untils and self._untils[0] <= now:
            yield from self._late(now)

    def _late(self, now: float) -> Iterator[tuple[Job, float, str]]:
        while self._untils and self._untils[0] <= now:
            heapq.heappop(self._untils)
        for name, jobs in list(self._waiting.items()):
            late = [one for one in jobs if one.until <= now]
            if not late:
                continue
            jobs[:] = [one for one in jobs if one.until > now]
            for one in late:
                if now - one.since < PATIENCE_S and self._is_silent(one.until - self._timeout_s):
                    again = one._replace(until=now + self._timeout_s)
                    jobs.append(again)
                    heapq.heappush(self._untils, again.until)
                    self._ask_again(name, now)
                    continue
                self._count -= 1
                yield one.job, min(now - one.since, self._timeout_s), "timeout"
            if not jobs:
                del self._waiting[name]

    def _ask_again(self, name: str, now: float) -> None:
        if self._asked.get(name) != now:
            self._asked[name] = now
            self._ask(name)

    def due_s(self) -> float:
        """When something is to be looked at even if no socket tells: seconds."""
        due_s = max(0.0, self._untils[0] - time.monotonic()) if self._untils else math.inf
        if self._asked:  # c-ares has time-outs of its own
            cares_due_s = self._channel.timeout(1.0)  # type: ignore[no-untyped-call]
            probe_s = max(self._probed, self._heard) + _PROBED_S - time.monotonic()
            due_s = max(0.001, min(due_s, cares_due_s, probe_s))
        return 0.0 if self._found else due_s

    def remove(self, is_meant: Callable[[Job], bool]) -> list[Job]:
        """Takes those of the jobs that wait."""
        removed: list[Job] = []
        for name, jobs in list(self._waiting.items()):
            removed += [one.job for one in jobs if is_meant(one.job)]
            jobs[:] = [one for one in jobs if not is_meant(one.job)]
            if not jobs:
                del self._waiting[name]
        self._count -= len(removed)
        return removed

    def close(self) -> None:
        self._channel.close()
