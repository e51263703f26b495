"""Where each job goes next: to its host's queue, to wait for robots.txt or another try, or home."""

from __future__ import annotations

import random

from transforms.fetching.curl_handle import Ended
from transforms.fetching.fetch_settings import FETCH_DETAILS, FetchSettings
from transforms.fetching.fetch_target import request_url
from transforms.fetching.host_queue import HostQueue, Job
from transforms.fetching.orders import Fetched, Order
from transforms.fetching.robots import Robots, RobotsCache, read_robots
from transforms.workers.unexpected import tell_once

# What may have passed in a second. A host without a name rarely gets one, so "dns" is not here.
_TRANSIENT = frozenset({"timeout", "refused", "unreachable", "reset", "cut_off", "http_429"}) | {
    detail for detail in FETCH_DETAILS if detail.startswith("http_5")
}
_FIRST_RETRY_AFTER_S = 0.5
ROBOTS = RobotsCache()  # of this process, shard after shard


class Routes:
    """The jobs of all orders that are not under way.

    Attributes:
      queue: what waits for its host.
      asked: how many wait for an origin's robots.txt.
    """

    def __init__(self, settings: FetchSettings) -> None:
        self._settings = settings
        self.queue = HostQueue(settings)
        self._asking: dict[str, list[Job]] = {}  # jobs that wait for an origin's robots.txt
        self.asked = 0

    def __len__(self) -> int:
        return len(self.queue) + self.asked

    def take(self, order: Order, index: int, url: str) -> None:
        """Takes one of an order's URLs."""
        try:
            target = request_url(url)
        except Exception as error:
            tell_once("reading a URL", error)
            target = None
        if target is None:
            order.give(Fetched(index, None, "bad_url"))
            return
        order.under_way += 1
        self._add(self._ready(Job(index, target, target, order=order)))

    def next_job(self) -> Job | None:
        """The next job that may begin now, or None."""
        job = self.queue.take()
        while self.queue.refused:
            refused, detail = self.queue.refused.popleft()
            self._fail(refused, detail)
        return job

    def _add(self, job: Job, *, first: bool = False) -> None:
        """Takes a job: to its host's queue, or to wait for what robots.txt says."""
        if not self._settings.robots_txt or job.robots_of:
            self.queue.add(job, first=first)
            return
        origin = job.origin
        robots = ROBOTS.get(origin, self._settings.user_agent_token)
        if robots is not None:
            self._admit(job, robots)
            return
        self.asked += 1
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

    def ended(self, ended: Ended) -> None:
        """Sends a job whose transfer has ended on its further way."""
        job, detail = ended.job, ended.detail
        if ended.named:
            job.left_s = max(0.001, job.left_s - ended.took_s)
            self.queue.put_back(job)
            return
        self.queue.ended(job.host, silent=detail if ended.silent else None)
        if ended.retry_after_s:
            self.queue.hold(job.host, min(ended.retry_after_s, self._settings.max_retry_after_s))
        if ended.redirect is not None and (listed := _listed(job, ended.redirect)):
            _give(job, None, None, listed)
        elif ended.redirect is not None:
            job.url, job.redirects = ended.redirect, job.redirects + 1
            job.left_s = max(0.001, job.left_s - ended.took_s)
            self._add(job, first=True)
        elif detail in _TRANSIENT and self._may_try_again(ended):
            backoff_s = _FIRST_RETRY_AFTER_S * 2 ** (job.attempts - 1) * random.uniform(0.5, 1.0)
            self.queue.add_later(self._ready(job), max(backoff_s, ended.retry_after_s))
        elif detail is not None:
            self._fail(job, detail)
        elif job.robots_of:
            self._answer(job.robots_of, ended.body)
        else:
            _give(job, ended.body, None)

    def _may_try_again(self, ended: Ended) -> bool:
        in_time = ended.retry_after_s <= self._settings.max_retry_after_s
        return in_time and ended.job.attempts <= self._settings.retries

    def _fail(self, job: Job, detail: str) -> None:
        if job.robots_of:
            self._answer(job.robots_of, None, detail)
        else:
            _give(job, None, detail)

    def _answer(self, origin: str, body: bytes | None, detail: str | None = None) -> None:
        token = self._settings.user_agent_token
        robots = read_robots(body, detail, token)
        ROBOTS.put(origin, token, robots)
        waiting = self._asking.pop(origin, [])
        self.asked -= len(waiting)
        for job in waiting:
            self._admit(job, robots)

    def remove(self, order: Order) -> list[Job]:
        """Takes all that waits of an order."""
        jobs = self.queue.remove(lambda job: job.order is order)
        for origin, waiting in self._asking.items():
            mine = [job for job in waiting if job.order is order]
            self._asking[origin] = [job for job in waiting if job.order is not order]
            self.asked -= len(mine)
            jobs += mine
        return jobs


def _listed(job: Job, url: str) -> str | None:
    """The blocklist that the target of a redirect is on, or None."""
    return None if job.order is None else job.order.listed(url)


def _give(job: Job, body: bytes | None, detail: str | None, listed: str | None = None) -> None:
    assert job.order is not None
    job.order.under_way -= 1
    job.order.give(Fetched(job.index, body, detail, listed))
