"""Many URLs fetched at once, each to one result whatever becomes of it.

A request costs 40 µs of CPU with pycurl; aiohttp takes 130 and urllib3 in threads 830.
"""

import random
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from transforms.fetching.curl_handle import Ended
from transforms.fetching.curl_multi import Transfers
from transforms.fetching.fetch_settings import FETCH_DETAILS, FetchSettings
from transforms.fetching.fetch_target import request_url
from transforms.fetching.host_queue import HostQueue, Job
from transforms.fetching.robots import Robots, RobotsCache, read_robots
from transforms.workers.unexpected import tell_once

__all__ = ["FETCH_DETAILS", "FetchSettings", "Fetched", "fetch_all"]

# What may have passed in a second. A host without a name rarely gets one, so "dns" is not here.
_TRANSIENT = frozenset({"timeout", "refused", "unreachable", "reset", "cut_off", "http_429"}) | {
    detail for detail in FETCH_DETAILS if detail.startswith("http_5")
}
_FIRST_RETRY_AFTER_S = 0.5
# URLs that wait for a busy host, so that the others behind them are reached: 300 bytes each.
_WAITING_PER_CONNECTION = 256
ROBOTS = RobotsCache()  # of this process, shard after shard


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


class _Fetches:
    """The fetches of one call: where each job goes next, and what is done."""

    def __init__(self, settings: FetchSettings) -> None:
        self._settings = settings
        self.transfers = Transfers(settings)
        self.queue = HostQueue(settings)
        self._asking: dict[str, list[Job]] = {}  # jobs that wait for an origin's robots.txt
        self._asked = 0
        self.done: deque[Fetched] = deque()

    @property
    def has_room(self) -> bool:
        """Whether another URL may be taken."""
        limit = _WAITING_PER_CONNECTION * self._settings.connections
        return self.transfers.has_room and len(self.queue) + self._asked < limit

    @property
    def under_way(self) -> bool:
        return bool(self.queue or self.transfers.under_way or self._asked)

    def begin(self) -> None:
        """Begins all that may begin now."""
        while self.transfers.has_room and (job := self.queue.take()):
            self.transfers.start(job)
        while self.queue.refused:
            job, detail = self.queue.refused.popleft()
            self._fail(job, detail)

    def add(self, job: Job, *, first: bool = False) -> None:
        """Takes a job: to its host's queue, or to wait for what robots.txt says."""
        if not self._settings.robots_txt or job.robots_of:
            self.queue.add(job, first=first)
            return
        origin = job.origin
        robots = ROBOTS.get(origin, self._settings.user_agent_token)
        if robots is not None:
            self._admit(job, robots)
            return
        self._asked += 1
        if origin in self._asking:
            self._asking[origin].append(job)
            return
        self._asking[origin] = [job]
        url = f"{origin}/robots.txt"
        self.queue.add(self._ready(Job(-1, url, url, robots_of=origin)), first=True)

    def _admit(self, job: Job, robots: Robots) -> None:
        refusal = robots.refusal_of(job.url)
        if refusal:
            self._fail(job, refusal)
            return
        if delay_s := robots.crawl_delay_s():
            self.queue.slow_down(job.host, delay_s)
        self.queue.add(job)

    def _ready(self, job: Job) -> Job:
        """A job before its next attempt."""
        job.url, job.redirects, job.attempts = job.first_url, 0, job.attempts + 1
        job.left_s = self._settings.timeout_s
        return job

    def take(self, index: int, url: str) -> None:
        """Takes one of the given URLs."""
        try:
            target = request_url(url)
        except Exception as error:
            tell_once("reading a URL", error)
            target = None
        if target is None:
            self.done.append(Fetched(index, None, "bad_url"))
        else:
            self.add(self._ready(Job(index, target, target)))

    def ended(self, ended: Ended) -> None:
        """Sends a job whose transfer has ended on its further way."""
        job, detail = ended.job, ended.detail
        self.queue.ended(job.host, silent=detail if ended.silent else None)
        if ended.retry_after_s:
            self.queue.hold(job.host, min(ended.retry_after_s, self._settings.max_retry_after_s))
        if ended.redirect is not None:
            job.url, job.redirects = ended.redirect, job.redirects + 1
            job.left_s = max(0.001, job.left_s - ended.took_s)
            self.add(job, first=True)
        elif detail in _TRANSIENT and self._may_try_again(ended):
            backoff_s = _FIRST_RETRY_AFTER_S * 2 ** (job.attempts - 1) * random.uniform(0.5, 1.0)
            self.queue.add_later(self._ready(job), max(backoff_s, ended.retry_after_s))
        elif detail is not None:
            self._fail(job, detail)
        elif job.robots_of:
            self._answer(job.robots_of, ended.body)
        else:
            self.done.append(Fetched(job.index, ended.body, None))

    def _may_try_again(self, ended: Ended) -> bool:
        in_time = ended.retry_after_s <= self._settings.max_retry_after_s
        return in_time and ended.job.attempts <= self._settings.retries

    def _fail(self, job: Job, detail: str) -> None:
        if job.robots_of:
            self._answer(job.robots_of, None, detail)
        else:
            self.done.append(Fetched(job.index, None, detail))

    def _answer(self, origin: str, body: bytes | None, detail: str | None = None) -> None:
        token = self._settings.user_agent_token
        robots = read_robots(body, detail, token)
        ROBOTS.put(origin, token, robots)
        waiting = self._asking.pop(origin, [])
        self._asked -= len(waiting)
        for job in waiting:
            self._admit(job, robots)

    def cut_off(self) -> None:
        """Ends all that is not done: the shard's time is over."""
        jobs = [*self.transfers.abandon(), *self.queue.clear()]
        jobs += [job for waiting in self._asking.values() for job in waiting]
        self._asking.clear()
        self._asked = 0
        self.done.extend(Fetched(j.index, None, "deadline") for j in jobs if not j.robots_of)


def fetch_all(urls: Iterable[str], settings: FetchSettings) -> Iterator[Fetched]:
    """Fetches many URLs at once and yields each in the order of completion.

    New URLs are taken only while the consumer pulls, and only so many wait for their host or for
    another attempt, so memory does not grow with the number of URLs. Nothing moves between two
    pulls, though the time-outs run: a consumer should not pause for seconds. What is not done
    `shard_timeout_s` after the first pull fails as "deadline".

    Yields:
      One `Fetched` for every URL, whatever string it is.
    """
    fetches = _Fetches(settings)
    numbered = enumerate(urls)
    more = True
    deadline = time.monotonic() + settings.shard_timeout_s
    try:
        while more or fetches.under_way or fetches.done:
            yield from _emptied(fetches.done)
            if time.monotonic() >= deadline:
                break
            fetches.begin()
            while more and fetches.has_room and not fetches.done:
                index, url = next(numbered, (-1, ""))
                more = index >= 0
                if more:
                    fetches.take(index, url)
                    fetches.begin()
            if fetches.done or not fetches.under_way:
                continue
            idle_s = fetches.queue.due_s() if fetches.transfers.has_room else 1.0
            left_s = max(0.0, deadline - time.monotonic())
            for ended in fetches.transfers.wait(min(left_s, idle_s)):
                fetches.ended(ended)
        fetches.cut_off()
        yield from _emptied(fetches.done)
        yield from (Fetched(index, None, "deadline") for index, _ in numbered)
    finally:
        fetches.transfers.close()


def _emptied(done: deque[Fetched]) -> Iterator[Fetched]:
    while done:
        yield done.popleft()
