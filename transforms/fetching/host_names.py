"""Hosts' names, looked up by the system in a thread each, so that none waits for another.

curl looks up 20 at once. A name whose DNS server is silent holds one of its threads for as long as
the system asks, 10 to 40 s, though the transfer that wanted it has ended: with 20 of them no other
name was found in time, and curl could not be closed before they ended. Here so many threads are
allowed that a worker of four shards, each with 64 connections that wait 5 s for names, all of them
silent for 10 s, needs no more. Beyond, names wait for their turn, and their time begins with it.
"""

import heapq
import math
import os
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator

from transforms.fetching.host_queue import Job

LOOKUPS = 512  # at once, of this process: a thread each, some 60 KB
_KEPT_S = 60.0  # that an answer is used again
_ADDRESS = re.compile(r"\[.*|[0-9.]+")


class _Lookups:
    """The threads of this process that look names up, and the names that wait for one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads = 0
        self._waiting: deque[tuple[str, HostNames]] = deque()

    def begin(self, host: str, names: "HostNames") -> bool:
        """Has a name looked up; False where it waits for its turn."""
        with self._lock:
            if self._threads >= LOOKUPS:
                self._waiting.append((host, names))
                return False
            self._threads += 1
        try:
            threading.Thread(target=self._work, args=(host, names), daemon=True).start()
        except RuntimeError:  # the system has no more threads
            with self._lock:
                self._threads -= 1
                if self._threads:
                    self._waiting.append((host, names))
                    return False
            names.tell(host, "")
        return True

    def _work(self, host: str, names: "HostNames") -> None:
        following: tuple[str, HostNames] | None = (host, names)
        while following:
            host, names = following
            names.tell(host, _addresses(host))
            following = self._next()
            if following:
                following[1].tell(following[0], None)

    def _next(self) -> "tuple[str, HostNames] | None":
        """What this thread is to look up now; else it ends, and counts no more."""
        with self._lock:
            while self._waiting:
                host, names = self._waiting.popleft()
                if not names.closed:
                    return host, names
            self._threads -= 1
            return None


_LOOKUPS = _Lookups()


def _addresses(host: str) -> str:
    """Where a name leads, as curl takes it; empty where it leads nowhere."""
    try:
        name = host.partition(":")[0].encode()
        answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except Exception:  # the system says no, in whatever way: its thread must go on
        return ""
    addresses = (str(address[0]) for *_, address in answers)
    return ",".join(f"[{one}]" if ":" in one else one for one in addresses)


class HostNames:
    """The jobs that wait for their host's name, and the answers.

    Attributes:
      bell: a file descriptor that can be read when an answer has come.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        # All by host, with its port if the URL has one.
        self._known: dict[str, tuple[float, str]] = {}  # until when, and addresses; oldest first
        self._waiting: dict[str, list[tuple[Job, float, float]]] = {}  # from when, until when
        self._untils: list[float] = []  # a heap, with those of jobs that wait no longer
        self._count = 0  # of the jobs that wait
        self._asked: set[str] = set()
        self._unbegun: set[str] = set()  # those asked that wait for their turn
        # What threads tell: None of a name that waited, where its turn has come.
        self._answers: deque[tuple[str, str | None]] = deque()
        self._lock, self.closed = threading.Lock(), False
        self.bell = os.eventfd(0, os.EFD_NONBLOCK)

    def __len__(self) -> int:
        return self._count

    def entry(self, job: Job) -> str | None:
        """What tells curl where a job's name leads; empty for an address; None where that is not
        known."""
        name, _, port = job.host.partition(":")
        if _ADDRESS.fullmatch(name):
            return ""
        known_until, addresses = self._known.get(job.host, (0.0, ""))
        if known_until <= time.monotonic():
            return None
        return f"+{name}:{port or (443 if job.url.startswith('https') else 80)}:{addresses}"

    def add(self, job: Job) -> None:
        """Lets a job wait for its name, which is looked up unless it is already."""
        if job.host not in self._asked:
            self._asked.add(job.host)
            if not _LOOKUPS.begin(job.host, self):
                self._unbegun.add(job.host)
        self._count += 1
        self._wait(job, time.monotonic())

    def _wait(self, job: Job, now: float) -> None:
        until = now + min(self._timeout_s, job.left_s)
        if job.host in self._unbegun:
            until = math.inf
        else:
            heapq.heappush(self._untils, until)
        self._waiting.setdefault(job.host, []).append((job, now, until))

    def tell(self, host: str, addresses: str | None) -> None:
        """What a thread has found, or None where it begins; on any thread."""
        with self._lock:
            if not self.closed:
                self._answers.append((host, addresses))
                os.eventfd_write(self.bell, 1)

    def ended(self) -> Iterator[tuple[Job, float, str | None]]:
        """The jobs that wait no longer: for how long they did, and the detail where their name was
        not found."""
        now = time.monotonic()
        while self._answers:
            host, addresses = self._answers.popleft()
            if addresses is None:
                self._unbegun.discard(host)
                for job, *_ in self._waiting.pop(host, []):
                    self._wait(job, now)
                continue
            self._asked.discard(host)
            if addresses:
                self._known.pop(host, None)
                self._known[host] = now + _KEPT_S, addresses
            jobs = self._waiting.pop(host, [])
            self._count -= len(jobs)
            for job, begun, _ in jobs:
                yield job, now - begun, None if addresses else "dns"
        if not self.due_s():
            yield from self._late(now)
        while self._known and next(iter(self._known.values()))[0] <= now:
            del self._known[next(iter(self._known))]

    def _late(self, now: float) -> Iterator[tuple[Job, float, str]]:
        while self._untils and self._untils[0] <= now:
            heapq.heappop(self._untils)
        for jobs in list(self._waiting.values()):
            late = [one for one in jobs if one[2] <= now]
            jobs[:] = [one for one in jobs if one[2] > now]
            self._count -= len(late)
            for job, begun, _ in late:
                yield job, now - begun, "timeout"

    def due_s(self) -> float:
        """When the next job may have waited too long."""
        return max(0.0, self._untils[0] - time.monotonic()) if self._untils else math.inf

    def clear(self) -> list[Job]:
        """Takes all that waits."""
        jobs = [job for jobs in self._waiting.values() for job, *_ in jobs]
        self._waiting.clear()
        self._untils.clear()
        self._count = 0
        return jobs

    def close(self) -> None:
        """Lookups that are under way end by themselves."""
        with self._lock:
            self.closed = True
            os.close(self.bell)
