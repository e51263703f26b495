"""Where each job goes next: to its host's queue, to wait for a file of its host or another try, or
home."""

from __future__ import annotations

import random
import time
import zlib
from collections.abc import Sequence
from functools import partial

from alignset.transforms.columns.pair_columns import (
    RSL,
    TDM_RESERVATION,
    opt_out_kind,
    ordered_opt_outs,
)
from alignset.transforms.columns.web_urls import origin_of, request_url
from alignset.transforms.fetching.curl_transfers import EndedTransfer
from alignset.transforms.fetching.fetch_settings import REFUSALS, TRANSIENT, FetchSettings
from alignset.transforms.fetching.host_files import ROBOTS, TDMREP, HostFile, P, stated_of
from alignset.transforms.fetching.host_queue import FetchJob, HostQueue
from alignset.transforms.fetching.orders import Fetched, HostAnswer, ImageResponse, Order
from alignset.transforms.opt_outs.host_statements import (
    License,
    license_links,
    record_response,
    recorded_requests,
)
from alignset.transforms.workers.unexpected import tell_once

FIRST_RETRY_AFTER_S = 0.5
# Licence files that the pages and responses of one origin may name: else each could cost a request.
_MOST_LINKED, _MOST_ORIGINS = 64, 20_000
_MOST_HELD = 1 << 26  # bytes of images that have come and wait; further ones are requested again


class Routes:
    """The jobs of all orders that are not under way.

    Attributes:
      queue: what waits for its host.
      waiting_count: how many wait for a file in which a host states opt-outs.
    """

    def __init__(self, settings: FetchSettings) -> None:
        self._settings = settings
        self.queue = HostQueue(settings)
        # By whom the caches are asked: to others a file may say other things, or not be had at all.
        uses = (settings.content_usage, settings.content_signal, settings.also_obey, settings.rsl)
        who = (settings.user_agent_token, settings.allow_private_addresses)
        self._reader = " ".join(map(str, (*who, *uses)))
        self._asking: dict[
            str, list[FetchJob]
        ] = {}  # jobs that wait for a file of opt-outs, by its URL
        self.waiting_count = self._held_bytes = 0
        self._linked: dict[str, set[str]] = {}  # the licence files by the origin that names them
        self._late: list[FetchJob] = []  # which `settle` decides on

    def __len__(self) -> int:
        return len(self.queue) + self.waiting_count

    def take(self, order: Order, index: int, url: str) -> None:
        """Takes one of an order's URLs."""
        if (target := _target(url)) is None:
            order.give(Fetched(index, None, "bad_url"))
            return
        self._add(self._ready(new_job(order, index, target)))

    def next_job(self) -> FetchJob | None:
        """The next job that may begin now, or None."""
        job = self.queue.take()
        while self.queue.refused_jobs:
            refused_job, detail = self.queue.refused_jobs.popleft()
            self._fail(refused_job, detail)
        return job

    def _add(self, job: FetchJob, *, first: bool = False) -> None:
        """Takes a job: to its host's queue, or to wait for a file in which a host states opt-outs.
        Where one cannot be had for now, no licence file is waited for any more."""
        if job.file:
            self.queue.add(job, first=first)
            return
        if job.order and (record := job.order.records.get(job.index)):
            requests = [*recorded_requests(job.first_url, record)]
            # A known image is judged by its pages first, and at its last URL by all its responses.
            *_, named = requests[-1 if job.is_known and job.known_from in (None, job.url) else 0]
            self._note_licenses(job, named)
        find = partial(self._policy, job)
        stated = stated_of(job.url, job.licenses, job.opted_out, self._settings, find)
        if stated is None:
            return
        opt_out = self._settings.rejects and next(iter(stated.opt_outs), None)
        # A host that cannot be asked has not opted out.
        refusal = stated.refusal if job.is_asked_for or job.by_head else None
        if detail := refusal or opt_out or (stated.missing if job.by_head else None):
            job.reserved = stated.reserved
            job.file_of = stated.license if detail == RSL else job.origin + ROBOTS.path
            self._fail(job, detail)
            return
        job.opted_out, job.reserved = stated.opt_outs, stated.reserved
        if job.body is not None:
            self._give_arrived(job)
            return
        if not job.redirects:
            job.first_reserved, job.first_opted_out = job.reserved, job.opted_out
        if stated.delay_s:
            self.queue.slow_down(job.host, stated.delay_s)
        if job.is_asked_for:
            self.queue.add(job, first=first)
        elif job.known_from in (None, job.url):
            _give_known(job)
        else:
            self._redirect(job, job.known_from)

    def _policy(self, job: FetchJob, file: HostFile[P], url: str) -> P | None:
        """The rules of a file; where they are not known the job waits for it, and the first that
        needs it requests it."""
        if (kept := file.cache.get(url, self._reader)) is not None:
            policy, answer = kept
            if job.order:
                job.order.note_answer(job.origin, answer)
            return policy
        if job.body is not None and self._held_bytes >= _MOST_HELD:
            job.body, job.left_s = None, self._settings.timeout_s
        self.waiting_count += 1
        self._held_bytes += len(job.body or b"")
        if url in self._asking:
            self._asking[url].append(job)
        else:
            self._asking[url] = [job]
            self.queue.add(self._ready(FetchJob(-1, url, url, file=file)), first=True)
        return None

    def _ready(self, job: FetchJob) -> FetchJob:
        """A job before its next attempt."""
        job.url, job.redirects, job.attempts = job.first_url, 0, job.attempts + 1
        job.left_s, job.reserved = self._settings.timeout_s, job.first_reserved
        job.headers, job.licenses, job.opted_out = "", (), job.first_opted_out
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
        job.headers = record_response(job.headers, end.lines, end.redirect)
        if end.redirect is not None:
            job.opted_out += end.opted_out
            self._note_licenses(job, license_links(end.lines, job.url))
            job.left_s = max(0.001, job.left_s - end.took_s)
            self._redirect(job, end.redirect)
        elif (
            detail in TRANSIENT
            and end.retry_after_s <= self._settings.max_retry_after_s
            and job.attempts <= self._settings.retries
        ):
            if detail == "timeout" and end.was_asked and not job.file:
                self._late.append(job)
            else:
                self._add_later(job, end.retry_after_s)
        elif detail is not None:
            if not job.file and (detail in REFUSALS or detail[:5] == "http_"):
                self.queue.note_answer(job.host, is_refusal=detail in REFUSALS)
            self._fail(job, detail, end.status)
        elif job.file:
            self._answer(job, end.body, None, end.status)
        else:
            self.queue.note_answer(job.host, is_refusal=False)
            job.opted_out += end.opted_out
            job.body, job.answer = end.body, end.answer
            if self._note_licenses(job, license_links(end.lines, job.url)):
                self._add(job)
            else:
                self._give_arrived(job)

    def _note_licenses(self, job: FetchJob, named: Sequence[License]) -> bool:
        """Notes licence files, if any are named. An image is not used at all where an origin names
        too many, since nobody reads what they say."""
        named = named if self._settings.rsl else ()
        for license in named:
            if len(self._linked) >= _MOST_ORIGINS:
                self._linked.clear()
            linked = self._linked.setdefault(origin_of(license.by), set())
            if len(linked) < _MOST_LINKED or license.url in linked:
                linked.add(license.url)
                job.licenses += (license,) * (license not in job.licenses)
            else:
                job.opted_out += (RSL,)
        return bool(named)

    def _give_arrived(self, job: FetchJob) -> None:
        _give(job, job.body, None, None, ordered_opt_outs(job.opted_out), job.answer)

    def _redirect(self, job: FetchJob, url: str) -> None:
        if job.order and (blocklist := job.order.find_listed(url)):
            _give(job, None, None, blocklist)
            return
        job.url, job.redirects = url, job.redirects + 1
        self._add(job, first=True)

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

    def _fail(self, job: FetchJob, detail: str, status: int | None = None) -> None:
        if job.file:
            # Where it leads astray, that is not a fault of the host's other files.
            astray = job.redirects and detail != "too_many_redirects"
            self._answer(job, None, "bad_redirect" if astray else detail, status)
        else:
            if job.by_head and job.reserved and opt_out_kind(detail) in ("", TDM_RESERVATION):
                # No header has taken it back.
                detail, job.file_of = TDM_RESERVATION, job.origin + TDMREP.path
            _give(job, None, detail)

    def _answer(
        self, job: FetchJob, body: bytes | None, detail: str | None, status: int | None
    ) -> None:
        """Continues the jobs that wait for a file; a response with status 200 has a body. All files
        in which hosts state opt-outs come here."""
        assert job.file is not None
        url, packed = job.first_url, None if body is None else zlib.compress(body, 1)
        answer = HostAnswer(job.file.name, url, status, detail, time.time(), packed)
        policy = job.file.read(body, detail, url, self._settings)
        job.file.cache.put(url, self._reader, policy, answer)
        waiting = self._asking.pop(url, [])
        self._count_out(waiting)
        for one in waiting:
            self._add(one)

    def _count_out(self, jobs: list[FetchJob]) -> None:
        """Jobs no longer wait for a file."""
        self.waiting_count -= len(jobs)
        self._held_bytes -= sum(len(job.body or b"") for job in jobs)

    def remove(self, order: Order) -> list[FetchJob]:
        """Takes all that waits of an order."""
        jobs = self.queue.remove(lambda job: job.order is order)
        jobs += [job for job in self._late if job.order is order]
        self._late = [job for job in self._late if job.order is not order]
        for url, waiting in self._asking.items():
            mine = [job for job in waiting if job.order is order]
            self._asking[url] = [job for job in waiting if job.order is not order]
            self._count_out(mine)
            jobs += mine
        return jobs


def new_job(order: Order, index: int, url: str) -> FetchJob:
    """A job of one of an order's URLs, which is under way then."""
    order.under_way += 1
    is_known, known_from = index in order.known, order.known.get(index)
    job = FetchJob(index, url, url, order=order, is_known=is_known, by_head=order.by_head)
    job.known_from = known_from and _target(known_from)
    return job


def cut_off(job: FetchJob) -> None:
    """Ends a job whose order's time is over."""
    if job.is_asked_for or job.by_head:
        _give(job, None, "deadline")
    else:
        _give_known(job)


def _target(url: str) -> str | None:
    try:
        return request_url(url)
    except Exception as error:
        tell_once("reading a URL", error)
        return None


def _give_known(job: FetchJob) -> None:
    assert job.order is not None
    blocklist = job.order.find_listed(job.known_from) if job.known_from else None
    _give(job, None, None, blocklist, ordered_opt_outs(job.opted_out))


def _give(
    job: FetchJob,
    body: bytes | None,
    detail: str | None,
    blocklist: str | None = None,
    opted_out: tuple[str, ...] = (),
    answer: ImageResponse | None = None,
) -> None:
    assert job.order is not None
    job.order.under_way -= 1
    of_job = job.headers, answer, job.file_of
    job.order.give(Fetched(job.index, body, detail, blocklist, opted_out, *of_job))
