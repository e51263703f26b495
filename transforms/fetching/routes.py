"""Where each job goes next: to its host's queue, to wait for robots.txt or another try, or home."""

from __future__ import annotations

import random

from alignset.transforms.columns.pair_columns import OPT_OUTS
from alignset.transforms.fetching.curl_handle import EndedTransfer
from alignset.transforms.fetching.fetch_settings import FETCH_DETAILS, REFUSALS, FetchSettings
from alignset.transforms.fetching.fetch_target import request_url
from alignset.transforms.fetching.host_queue import FetchJob, HostQueue
from alignset.transforms.fetching.orders import Fetched, Order, listed_nowhere
from alignset.transforms.fetching.robots import PolicyCache, Robots, read_robots
from alignset.transforms.opt_outs import tdm_reservation
from alignset.transforms.opt_outs.tdm_reservation import TdmRules, read_tdmrep
from alignset.transforms.workers.unexpected import tell_once

# What may have passed in a second. A host without a name rarely gets one, so "dns" is not here.
_TRANSIENT = frozenset({"timeout", "refused", "unreachable", "reset", "cut_off", "http_429"}) | {
    detail for detail in FETCH_DETAILS if detail.startswith("http_5")
}
FIRST_RETRY_AFTER_S = 0.5
ROBOTS_PATH, TDMREP_PATH = "/robots.txt", tdm_reservation.PATH
# Of this process, shard after shard.
ROBOTS = PolicyCache[Robots]()
TDMREP = PolicyCache[TdmRules]()
_NO_ROBOTS, _NO_RESERVATIONS = Robots(None), TdmRules()


class Routes:
    """The jobs of all orders that are not under way.

    Attributes:
      queue: what waits for its host.
      waiting_count: how many wait for a file of an origin's opt-outs.
    """

    def __init__(self, settings: FetchSettings) -> None:
        self._settings = settings
        self.queue = HostQueue(settings)
        self._token = settings.user_agent_token
        # By whom the caches are asked: to others a file may say other things, or not be had at all.
        private = settings.allow_private_addresses
        self._reader = f"{self._token} {settings.content_usage} {private}"
        self._asking: dict[
            str, list[FetchJob]
        ] = {}  # jobs that wait for a file of opt-outs, by its URL
        self.waiting_count = 0
        self._late: list[FetchJob] = []  # which `settle` decides on

    def __len__(self) -> int:
        return len(self.queue) + self.waiting_count

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
        self._add(self._ready(FetchJob(index, target, target, order=order)))

    def next_job(self) -> FetchJob | None:
        """The next job that may begin now, or None."""
        job = self.queue.take()
        while self.queue.refused_jobs:
            refused_job, detail = self.queue.refused_jobs.popleft()
            self._fail(refused_job, detail)
        return job

    def _add(self, job: FetchJob, *, first: bool = False) -> None:
        """Takes a job: to its host's queue, or to wait for its host's opt-outs."""
        if job.robots_of:
            self.queue.add(job, first=first)
            return
        robots: Robots | None = _NO_ROBOTS
        if self._settings.robots_txt and (robots := ROBOTS.get(job.origin, self._reader)) is None:
            self._ask(job, ROBOTS_PATH)
            return
        rules: TdmRules | None = _NO_RESERVATIONS
        if self._settings.tdmrep_json and (rules := TDMREP.get(job.origin, self._reader)) is None:
            self._ask(job, TDMREP_PATH)
            return
        assert robots is not None
        assert rules is not None
        self._admit(job, robots, rules, first)

    def _ask(self, job: FetchJob, path: str) -> None:
        """Lets a job wait for a file of its origin, which the first that needs it asks for."""
        self.waiting_count += 1
        origin = job.origin
        url = origin + path
        if url in self._asking:
            self._asking[url].append(job)
            return
        self._asking[url] = [job]
        self.queue.add(
            self._ready(FetchJob(-1, url, url, robots_of=origin, policy=path)), first=True
        )

    def _admit(self, job: FetchJob, robots: Robots, rules: TdmRules, first: bool) -> None:
        opt_outs = robots.opt_outs(job.url)
        refusal = robots.refusal or (self._settings.rejects and next(iter(opt_outs), None))
        if refusal:
            self._fail(job, refusal)
            return
        job.opted_out += opt_outs
        job.reserved = rules.reserves(job.url)
        if not job.redirects:
            job.first_reserved = job.reserved
        if delay_s := robots.crawl_delay_s():
            self.queue.slow_down(job.host, delay_s)
        self.queue.add(job, first=first)

    def _ready(self, job: FetchJob) -> FetchJob:
        """A job before its next attempt."""
        job.url, job.redirects, job.attempts = job.first_url, 0, job.attempts + 1
        job.left_s, job.reserved = self._settings.timeout_s, job.first_reserved
        return job

    def note_end(self, end: EndedTransfer) -> None:
        """Sends a job whose transfer has ended on its further way."""
        job, detail = end.job, end.detail
        if end.has_name:
            job.left_s = max(0.001, job.left_s - end.took_s)
            self.queue.put_back(job)
            return
        self.queue.note_end(job.host, silent=detail if end.silent else None)
        if end.retry_after_s:
            self.queue.hold(job.host, min(end.retry_after_s, self._settings.max_retry_after_s))
        find_listed = job.order.find_listed if job.order else listed_nowhere
        if end.redirect is not None and (blocklist := find_listed(end.redirect)):
            _give(job, Fetched(job.index, None, None, blocklist))
        elif end.redirect is not None:
            job.url, job.redirects = end.redirect, job.redirects + 1
            job.opted_out += end.opted_out
            job.left_s = max(0.001, job.left_s - end.took_s)
            self._add(job, first=True)
        elif (
            detail in _TRANSIENT
            and end.retry_after_s <= self._settings.max_retry_after_s
            and job.attempts <= self._settings.retries
        ):
            if detail == "timeout" and end.was_asked and not job.robots_of:
                self._late.append(job)
            else:
                self._add_later(job, end.retry_after_s)
        elif detail is not None:
            if not job.robots_of and (detail in REFUSALS or detail[:5] == "http_"):
                self.queue.note_answer(job.host, is_refusal=detail in REFUSALS)
            self._fail(job, detail)
        elif job.robots_of:
            self._answer(job, end.body)
        else:
            self.queue.note_answer(job.host, is_refusal=False)
            statements = {*job.opted_out, *end.opted_out}
            opted_out = tuple(kind for kind in OPT_OUTS if kind in statements)
            came = Fetched(job.index, end.body, None, None, opted_out, end.answer)
            _give(job, came)

    def settle(self, *, try_again: bool) -> None:
        """Decides on images that their hosts were asked for and did not bring in time.

        There is a further attempt only where it is the line that has trouble. A host that is silent
        for so long has enough of its own, and each attempt at the slowest image of a shard makes
        all wait for 10 s more.
        """
        late, self._late = self._late, []
        for job in late:
            if try_again:
                self._add_later(job)
            else:
                self._fail(job, "timeout")

    def _add_later(self, job: FetchJob, at_least_s: float = 0.0) -> None:
        backoff_s = FIRST_RETRY_AFTER_S * 2 ** (job.attempts - 1) * random.uniform(0.5, 1.0)
        self.queue.add_later(self._ready(job), max(backoff_s, at_least_s))

    def _fail(self, job: FetchJob, detail: str) -> None:
        if job.robots_of:
            # Where it leads astray, that is not a fault of the host's other files.
            astray = job.redirects and detail != "too_many_redirects"
            self._answer(job, None, "bad_redirect" if astray else detail)
        else:
            _give(job, Fetched(job.index, None, detail))

    def _answer(self, file_job: FetchJob, body: bytes | None, detail: str | None = None) -> None:
        """Continues the jobs that wait for this file; a response with status 200 has a body."""
        assert file_job.robots_of is not None
        if file_job.policy == ROBOTS_PATH:
            robots = read_robots(body, detail, self._token, self._settings.usage_categories)
            ROBOTS.put(file_job.robots_of, self._reader, robots)
        else:
            rules = read_tdmrep(body)._replace(passing=detail in _TRANSIENT)
            TDMREP.put(file_job.robots_of, self._reader, rules)
        waiting = self._asking.pop(file_job.first_url, [])
        self.waiting_count -= len(waiting)
        for job in waiting:
            self._add(job)

    def remove(self, order: Order) -> list[FetchJob]:
        """Takes all that waits of an order."""
        jobs = self.queue.remove(lambda job: job.order is order)
        jobs += [job for job in self._late if job.order is order]
        self._late = [job for job in self._late if job.order is not order]
        for url, waiting in self._asking.items():
            mine = [job for job in waiting if job.order is order]
            self._asking[url] = [job for job in waiting if job.order is not order]
            self.waiting_count -= len(mine)
            jobs += mine
        return jobs


def _give(job: FetchJob, result: Fetched) -> None:
    assert job.order is not None
    job.order.under_way -= 1
    job.order.give(result)
