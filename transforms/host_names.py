"""Hosts' names, looked up by the system in a thread each, so that none waits for another.

curl looks up 20 at once. A name whose DNS server is silent holds one of its threads for as long as
the system asks, 10 s and more, though the transfer that wanted it has ended: with 20 of them no
other name was found in time, and curl could not be closed before they ended.
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

from transforms.host_queue import Job

_KEPT_S = 60.0  # that an answer is used again
_ADDRESS = re.compile(r"\[.*|[0-9.]+")


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
        self._answers: deque[tuple[str, str]] = deque()
        self._lock, self._closed = threading.Lock(), False
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
        host, now = job.host, time.monotonic()
        until = now + min(self._timeout_s, job.left_s)
        self._waiting.setdefault(host, []).append((job, now, until))
        heapq.heappush(self._untils, until)
        self._count += 1
        if host in self._asked:
            return
        self._asked.add(host)
        try:
            threading.Thread(target=self._look_up, args=(host,), daemon=True).start()
        except RuntimeError:  # there are no more threads
            self._tell(host, "")

    def _look_up(self, host: str) -> None:
        name = host.partition(":")[0].encode()
        try:
            found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except OSError:
            found = []
        addresses = (str(address[0]) for *_, address in found)
        self._tell(host, ",".join(f"[{one}]" if ":" in one else one for one in addresses))

    def _tell(self, host: str, addresses: str) -> None:
        with self._lock:
            if not self._closed:
                self._answers.append((host, addresses))
                os.eventfd_write(self.bell, 1)

    def ended(self) -> Iterator[tuple[Job, float, str | None]]:
        """The jobs that wait no longer: for how long they did, and the detail where their name was
        not found."""
        now = time.monotonic()
        while self._answers:
            host, addresses = self._answers.popleft()
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
            self._closed = True
            os.close(self.bell)
