"""The jobs that wait for their host's name, and where names lead, each kept for its TTL: looked up
by c-ares, thousands at once on one thread.

The system's `getaddrinfo` needs a thread for each name, and a silent name server holds it for 10 to
40 s. c-ares has its own sockets, which the fetcher's loop watches beside curl's; it reads
/etc/resolv.conf and /etc/hosts as the system does.

Some of its answers mean little. It gives a name up by the mean time of former answers: after 0.25
s, where these came within milliseconds. So its time-outs are not verdict: the name is asked for
again in a channel of its own for slow names, whose mean is theirs, for as long as somebody waits.
It reports no address where a name lacks one kind and the query for the other was lost: so each kind
is then queried by itself. It returns only IPv6 addresses where the query for the others was lost:
so these are then queried by themselves, since many machines have no IPv6. And a name server that
cannot tell, or will not, often can a moment later: it is asked twice more.
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
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pycares

from alignset.transforms.fetching.host_queue import FetchJob
from alignset.transforms.workers.unexpected import tell_once

SERVERS: list[str] = []  # in place of those of /etc/resolv.conf
_MOST_ADDRESSES = 64  # of a name, in the order of the answer, which may have 4,000
_LEAST_KEPT_S, _LONGEST_KEPT_S = 1.0, 3600.0  # whatever the TTL says
_FAILED_KEPT_S = 10.0
_TRIES = 1, 2  # of the channel that a name is asked for in first, and of that for slow names
_LOOK_S = 0.01  # between two looks at c-ares' time-outs
_SHORTEST_S = 0.25  # of its time-outs
_PROBED_S = 1.0  # between two probes, and after the last word of a name server
_AGAIN_S = 0.5  # until c-ares is asked anew
_UNSORTED = 1 << 7  # ARES_AI_NOSORT: curl tries IPv6 and IPv4 side by side; sorting costs sockets
_RECEIVED = 1 << 22  # bytes of answers that wait for this thread
_NEXT_FAMILY = {socket.AF_UNSPEC: socket.AF_INET, socket.AF_INET: socket.AF_INET6}
_UNHEARD = frozenset({pycares.errno.ARES_ECONNREFUSED, pycares.errno.ARES_ETIMEOUT})
_NO_ANSWER = _UNHEARD | {pycares.errno.ARES_ECANCELLED}
# The server cannot tell, or will not; until it is asked again, each time.
_CANNOT_TELL = frozenset({pycares.errno.ARES_ESERVFAIL, pycares.errno.ARES_EREFUSED})
_CANNOT_TELL_AGAIN_S = 0.5, 1.0
Family = socket.AddressFamily


class ServerSilence:
    """When the name server spoke last, and since when it has not answered a probe: a question that
    each name server can answer.

    Args:
      limit_s: seconds without an answer to a probe, after which it counts as silent.

    Attributes:
      spoke_again: when it did after a silence; -inf where it never was silent.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._last_heard_s = self._last_probe_s = self.spoke_again = -math.inf
        self._unanswered_since = math.inf

    def hear(self, now: float) -> bool:
        """The name server said something; whether that ends a silence."""
        was_silent = self.lasts(now)
        if was_silent:
            self.spoke_again = now
        self._last_heard_s, self._unanswered_since = now, math.inf
        return was_silent

    def lasts(self, now: float) -> bool:
        """Whether it says nothing at all, though it was probed a while ago."""
        return now - self._unanswered_since >= self._limit_s

    @property
    def is_doubted(self) -> bool:
        """Whether a probe is not answered yet."""
        return self._unanswered_since < math.inf

    def due(self) -> float:
        """When it is to be probed."""
        return max(self._last_probe_s, self._last_heard_s) + _PROBED_S

    def probe(self, now: float) -> None:
        """It is probed."""
        self._last_probe_s, self._unanswered_since = now, min(now, self._unanswered_since)


class Told(NamedTuple):
    """Result of a name's lookup.

    Fields:
      addresses: as curl takes them; empty where there is none.
      kept_s: seconds for which that holds.
      unsure: whether the name server could not tell.
    """

    addresses: str
    kept_s: float
    unsure: bool = False


@dataclass(slots=True)
class _Asked:
    """Queries for a name.

    Attributes:
      number, family: of the latest question.
      failures: how often the server could not tell.
      ipv6: what there is of an answer whose other half is asked for; ttl_s: for how long.
    """

    number: int = 0
    family: Family = socket.AF_UNSPEC
    failures: int = 0
    ipv6: tuple[Any, ...] = ()
    ttl_s: float = 0.0


class NameQuestions:
    """The names that are asked for and have no answer yet.

    Args:
      silent_s: seconds after which a name server that answers nothing counts as silent.
      watch: told which socket is to be watched, for which of epoll's events; 0: no more.
      tell: told what is said of a name, which then is not asked for any more.

    Attributes:
      sockets: of c-ares.
      silence: of the name server.
    """

    def __init__(
        self,
        silent_s: float,
        watch: Callable[[int, int], None],
        tell: Callable[[str, Told], None],
    ) -> None:
        self._watch, self._tell = watch, tell
        self._questions: dict[str, _Asked] = {}
        self._again: list[tuple[float, str]] = []  # a heap of when which of them are asked anew
        self._numbers = itertools.count()
        self._look_at = self._time_out_at = -math.inf  # of c-ares
        self.silence = ServerSilence(silent_s)
        self._all_again = False
        self.sockets: dict[int, pycares.Channel] = {}
        self._channels = [self._channel(tries) for tries in _TRIES]

    def _channel(self, tries: int) -> pycares.Channel:
        def note_socket(fd: int, readable: bool, writable: bool) -> None:
            self.sockets[fd] = channel
            if not (events := select.EPOLLIN * readable | select.EPOLLOUT * writable):
                del self.sockets[fd]
            self._watch(fd, events)

        servers, size = SERVERS or None, _RECEIVED
        channel = pycares.Channel(
            sock_state_cb=note_socket, servers=servers, tries=tries, socket_receive_buffer_size=size
        )
        return channel

    def process(self, fd: int, events: int) -> None:
        """Reads and writes what a socket is ready for."""
        bad = pycares.ARES_SOCKET_BAD
        write_fd = fd if events & select.EPOLLOUT else bad
        self.sockets[fd].process_fd(fd if events & ~select.EPOLLOUT else bad, write_fd)

    def __contains__(self, name: str) -> bool:
        return name in self._questions

    def forget(self, name: str) -> None:
        """Nobody waits for a name any more."""
        self._questions.pop(name, None)

    def could_not_tell(self, name: str) -> bool:
        """Whether that is what the server has said of a name by now."""
        question = self._questions.get(name)
        return question is not None and question.failures > 0

    def settle(self, name: str) -> bool:
        """Tells what there is of an answer whose rest nobody waits for any more; or False."""
        question = self._questions.get(name)
        if question is None or not question.ipv6:
            return False
        self._answer(name, question.ipv6, _LEAST_KEPT_S)
        return True

    def ask(self, name: str, family: Family = socket.AF_UNSPEC, slow: bool = False) -> None:
        """Asks for the addresses of a host, HOST[:PORT]."""
        number = next(self._numbers)
        question = self._questions.setdefault(name, _Asked())
        question.number, question.family = number, family
        self._time_out_at = min(self._time_out_at, time.monotonic() + _SHORTEST_S)

        def note_result(result: Any, error: int | None) -> None:
            try:
                is_latest = self._questions.get(name) is question and question.number == number
                if error not in _NO_ANSWER:
                    self._hear()
                if is_latest:
                    self._heard_of(name, result, error, slow)
                elif error is None and not _lacks_ipv4(family, result):
                    self._answer(name, result.nodes, _ttl_s(result))  # before the later question
            except Exception as raised:  # it would be lost within c-ares
                tell_once("reading a name server's answer", raised)
                self._fail(name)

        plain, kind = name.partition(":")[0], socket.SOCK_STREAM
        try:
            self._channels[slow].getaddrinfo(
                plain, None, family=family, type=kind, flags=_UNSORTED, callback=note_result
            )
        except Exception as error:  # a name that is none to c-ares
            tell_once("asking for a name", error)
            self._fail(name)

    def _heard_of(self, name: str, result: Any, error: int | None, slow: bool) -> None:
        """Result of the latest query for a name."""
        question = self._questions[name]
        if error in _CANNOT_TELL and question.failures < len(_CANNOT_TELL_AGAIN_S):
            self._ask_later(name, _CANNOT_TELL_AGAIN_S[question.failures])
            question.failures += 1
        elif question.ipv6:
            self._join(name, question, result, error)
        elif error in _UNHEARD:
            self._ask_later(name, _AGAIN_S * slow)
        elif error == pycares.errno.ARES_ENODATA and question.family in _NEXT_FAMILY:
            self.ask(name, _NEXT_FAMILY[question.family], slow=True)
        elif error is None and _lacks_ipv4(question.family, result):
            question.ipv6, question.ttl_s = tuple(result.nodes), _ttl_s(result)
            self.ask(name, socket.AF_INET, slow=True)
        elif error is None:
            self._answer(name, result.nodes, _ttl_s(result))
        elif error != pycares.errno.ARES_ECANCELLED:
            self._fail(name, unsure=error in _CANNOT_TELL)

    def _join(self, name: str, question: _Asked, result: Any, error: int | None) -> None:
        """Joins a name's IPv6 addresses with the result for the others."""
        if error is None:
            ttl_s = min(question.ttl_s, _ttl_s(result))
            self._answer(name, (*result.nodes, *question.ipv6), ttl_s)
        elif error in _CANNOT_TELL | _NO_ANSWER:  # it may have others
            self._answer(name, question.ipv6, min(question.ttl_s, _FAILED_KEPT_S))
        else:
            self._answer(name, question.ipv6, question.ttl_s)

    def _ask_later(self, name: str, seconds: float) -> None:
        heapq.heappush(self._again, (time.monotonic() + seconds, name))

    def _answer(self, name: str, nodes: Sequence[Any], ttl_s: float) -> None:
        self._questions.pop(name, None)
        addresses = [node.addr[0].decode() for node in nodes[:_MOST_ADDRESSES]]
        text = ",".join(f"[{address}]" if ":" in address else address for address in addresses)
        self._tell(name, Told(text, min(_LONGEST_KEPT_S, max(_LEAST_KEPT_S, ttl_s))))

    def _fail(self, name: str, *, unsure: bool = False) -> None:
        self._questions.pop(name, None)
        self._tell(name, Told("", _FAILED_KEPT_S, unsure))

    def turn(self, names: Container[str]) -> None:
        """Does what is due by the clock.

        Args:
          names: the names that somebody waits for; no others are asked for again.
        """
        now = time.monotonic()
        if self._questions:
            self._probe(now)
            if now >= self._look_at:
                self._look_at_time_outs(now)
        if self._all_again:  # c-ares would wait for twice as long as before its last try
            self._all_again = False
            self._again = [(now, name) for name in self._questions]
        while self._again and self._again[0][0] <= now:
            name = heapq.heappop(self._again)[1]
            if name in names:
                question = self._questions.get(name)
                self.ask(name, question.family if question else socket.AF_UNSPEC, slow=True)
            else:
                self._questions.pop(name, None)

    def _look_at_time_outs(self, now: float) -> None:
        """Lets c-ares see to its own; it looks at no socket."""
        for channel in self._channels:
            channel.process_fd(pycares.ARES_SOCKET_BAD, pycares.ARES_SOCKET_BAD)
        left_s = [channel.timeout(1.0) for channel in self._channels]  # type: ignore[no-untyped-call]
        self._look_at, self._time_out_at = now + _LOOK_S, now + min(left_s)

    def _hear(self) -> None:
        self._all_again |= self.silence.hear(time.monotonic())

    def _probe(self, now: float) -> None:
        """Asks for a name that there never is, which each name server knows: whether it lives."""
        if now < self.silence.due():
            return

        def note_answer(_: Any, error: int | None) -> None:
            if error not in _NO_ANSWER:
                self._hear()

        slow = self.silence.is_doubted
        self.silence.probe(now)
        name = f"{uuid.uuid4().hex}.invalid"
        self._channels[slow].query(name, pycares.QUERY_TYPE_A, callback=note_answer)

    def due(self) -> float:
        """When `turn` is to be called even if no socket tells."""
        due = self._again[0][0] if self._again else math.inf
        if self._questions:
            due = min(due, max(self._look_at, self._time_out_at), self.silence.due())
        return due

    def close(self) -> None:
        self._watch = lambda fd, events: None  # c-ares closes its sockets later, on another thread
        for channel in self._channels:
            channel.close()


def _ttl_s(result: Any) -> float:
    return float(min([record.ttl for record in (*result.nodes, *result.cnames)], default=0))


def _lacks_ipv4(family: Family, result: Any) -> bool:
    """Whether both kinds of addresses were queried, and only IPv6 came."""
    return family == socket.AF_UNSPEC and all(
        node.family != socket.AF_INET for node in result.nodes
    )


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
