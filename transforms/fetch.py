"""Many URLs fetched at once, each to one result whatever becomes of it.

A request costs 40 µs of CPU with pycurl; aiohttp takes 130 and urllib3 in threads 830.
"""

import heapq
import random
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from transforms.fetch_settings import FETCH_DETAILS, FetchSettings
from transforms.fetch_target import request_url
from transforms.transfers import Job, Transfers

__all__ = ["FETCH_DETAILS", "FetchSettings", "Fetched", "fetch_all"]

# What may have passed in a second. A host without a name rarely gets one, so "dns" is not here.
_TRANSIENT = frozenset({"timeout", "refused", "unreachable", "reset", "cut_off", "http_429"}) | {
    detail for detail in FETCH_DETAILS if detail.startswith("http_5")
}
_FIRST_RETRY_AFTER_S = 0.5
# URLs that wait for a busy host, so that the others behind them are reached.
_WAITING_PER_CONNECTION = 32


@dataclass(frozen=True, slots=True)
class Fetched:
    """What became of one URL.

    Attributes:
      index: which of the given URLs.
      body: decoded bytes of a 200 answer; None where it failed.
      detail: one of FETCH_DETAILS; None where it worked.
    """

    index: int
    body: bytes | None
    detail: str | None


class _Waiting:
    """Jobs that are not under way: their host is busy, or they wait to be tried again."""

    def __init__(self, transfers: Transfers, settings: FetchSettings) -> None:
        self._transfers, self._settings = transfers, settings
        self._busy: Counter[str] = Counter()  # fetches under way, by host
        self._by_host: dict[str, deque[Job]] = {}
        self._retries: list[tuple[float, int, Job]] = []  # a heap by the time when each is due
        self._waiting = 0

    def __bool__(self) -> bool:
        return self._waiting > 0

    @property
    def has_room(self) -> bool:
        """Whether another URL may be taken."""
        limit = _WAITING_PER_CONNECTION * self._settings.connections
        return self._transfers.has_room and self._waiting < limit

    def add(self, job: Job) -> None:
        self._by_host.setdefault(_host(job), deque()).append(job)
        self._waiting += 1

    def add_retry(self, job: Job) -> None:
        backoff_s = _FIRST_RETRY_AFTER_S * 2 ** (job.attempts - 1)
        due = time.monotonic() + backoff_s * random.uniform(0.5, 1.0)
        heapq.heappush(self._retries, (due, job.index, job))
        self._waiting += 1

    def ended(self, job: Job) -> None:
        """A job of this host is no longer under way."""
        self._busy[_host(job)] -= 1

    def begin(self) -> None:
        """Begins all that may begin now."""
        while self._retries and self._retries[0][0] <= time.monotonic():
            job = heapq.heappop(self._retries)[2]
            self._by_host.setdefault(_host(job), deque()).append(job)
        for host, jobs in list(self._by_host.items()):
            while (
                jobs
                and self._transfers.has_room
                and self._busy[host] < self._settings.connections_per_host
            ):
                self._busy[host] += 1
                self._waiting -= 1
                _begin_attempt(jobs.popleft(), self._transfers, self._settings)
            if not jobs:
                del self._by_host[host]

    def due_s(self) -> float:
        """How long nothing can begin unless something ends: seconds, at most 1."""
        if not self._retries or not self._transfers.has_room:
            return 1.0
        return min(1.0, max(0.0, self._retries[0][0] - time.monotonic()))


def _host(job: Job) -> str:
    return job.first_url.split("/", 3)[2]


def fetch_all(urls: Iterable[str], settings: FetchSettings) -> Iterator[Fetched]:
    """Fetches many URLs at once and yields each in the order of completion.

    New URLs are taken only while the consumer pulls, and only so many wait for their host or for
    another attempt, so memory does not grow with the number of URLs. Nothing moves between two
    pulls, though the time-outs run: a consumer should not pause for seconds.

    Yields:
      One `Fetched` for every URL, whatever string it is.
    """
    transfers = Transfers(settings)
    waiting = _Waiting(transfers, settings)
    numbered = enumerate(urls)
    more = True
    try:
        while more or waiting or transfers.under_way:
            waiting.begin()
            while more and waiting.has_room:
                index, url = next(numbered, (-1, ""))
                more = index >= 0
                if not more:
                    break
                target = request_url(url)
                if target is None:
                    yield Fetched(index, None, "bad_url")
                else:
                    waiting.add(Job(index, target, target))
                    waiting.begin()
            if not waiting and not transfers.under_way:
                continue
            for job, body, detail in transfers.wait(waiting.due_s()):
                waiting.ended(job)
                if detail in _TRANSIENT and job.attempts <= settings.retries:
                    waiting.add_retry(job)
                else:
                    yield Fetched(job.index, body, detail)
    finally:
        transfers.close()


def _begin_attempt(job: Job, transfers: Transfers, settings: FetchSettings) -> None:
    job.url, job.redirects, job.attempts = job.first_url, 0, job.attempts + 1
    job.deadline = time.monotonic() + settings.timeout_s
    transfers.start(job)
