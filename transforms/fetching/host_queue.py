"""Jobs that wait for their host: how many of its at once, how often, and when again."""

import heapq
import itertools
import logging
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from alignset.transforms.columns.web_urls import origin_of
from alignset.transforms.fetching.fetch_settings import FetchSettings
from alignset.transforms.fetching.host_files import HostFile
from alignset.transforms.fetching.orders import ImageResponse, Order
from alignset.transforms.opt_outs.host_statements import License

LOG = logging.getLogger("alignset")

MOST_REFUSALS = 20  # images that a host refuses before it is left alone, if it gave none
GIVEN_UP_S = 60.0  # then one more attempt is made at a host that was given up
_SWEPT_HOSTS = 10_000  # with more, those of no more use are looked for now and then


@dataclass(slots=True, eq=False)
class FetchJob:
    """One URL on its way to its one `Fetched`.

    Attributes:
      url: where it is to be fetched from now, after redirects.
      left_s: seconds left to this attempt; waiting for a host takes none.
      file: the kind of a host's file; None for an image.
      opted_out: the opt-outs that are known by now. headers: by which, of this attempt.
      reserved: whether the host's tdmrep.json reserves the rights of `url`.
      first_reserved, first_opted_out: of `first_url`, before its request.
      licenses: the licence files that pages and responses name.
      body, answer: of an image that has come, and waits for such a file.
      order: whose it is; None of a host's file, which is everybody's.
      is_known: whether the image is known. known_from: the URL that brought it, if one did.
      by_head: whether the image is asked for by HEAD.
      file_of: as of `Fetched`.
    """

    index: int
    first_url: str
    url: str
    left_s: float = 0.0
    redirects: int = 0
    attempts: int = 0
    file: HostFile[Any] | None = None
    opted_out: tuple[str, ...] = ()
    reserved: bool = False
    first_reserved: bool = False
    first_opted_out: tuple[str, ...] = ()
    headers: str = ""
    licenses: tuple[License, ...] = ()
    body: bytes | None = None
    answer: ImageResponse | None = None
    order: Order | None = None
    is_known: bool = False
    known_from: str | None = None
    by_head: bool = False
    file_of: str | None = None

    @property
    def is_asked_for(self) -> bool:
        """Whether the image is to be fetched. Rights that a file reserves to one that came once may
        be given by its own header."""
        return not self.is_known or (self.reserved and self.known_from is not None)

    @property
    def authority(self) -> str:
        """The host as the URL has it, and its port where that is not the scheme's own."""
        return self.url.split("/", 3)[2]

    @property
    def host(self) -> str:
        """The same without the last dot of an absolute name, which makes no other host of it."""
        host = self.url.split("/", 3)[2]
        if host[-1] == "." or ".:" in host:
            host = host.replace(".:", ":").removesuffix(".")
        return host

    @property
    def origin(self) -> str:
        return origin_of(self.url)


@dataclass(slots=True, eq=False)
class _Host:
    interval_s: float
    jobs: deque[FetchJob] = field(default_factory=deque)
    busy: int = 0
    free_at: float = 0.0  # no request begins before
    is_offered: bool = False  # whether it stands among the ready or the later ones
    silences: int = 0  # attempts in a row that got no byte
    refusals: int = 0  # images, before any other response; -1 after such a one
    given_up: str | None = None  # the detail of all further jobs
    until: float = 0.0  # when it is tried again


class HostQueue:
    """Waiting jobs, and the next that may begin. Hosts that may take turns.

    Attributes:
      refused_jobs: jobs of hosts that were given up, each with its detail; to be taken out.
    """

    def __init__(self, settings: FetchSettings) -> None:
        rate = settings.requests_per_second_per_host
        self._interval_s = 1 / rate if rate else 0.0
        self._settings = settings
        self._hosts: dict[str, _Host] = {}
        self._ready: deque[_Host] = deque()
        # A heap of hosts that must be left alone, and of jobs to be tried again, by time.
        self._later: list[tuple[float, int, _Host | FetchJob]] = []
        self._count = itertools.count()
        self._waiting = 0
        self._sweep_at = _SWEPT_HOSTS
        self.refused_jobs: deque[tuple[FetchJob, str]] = deque()
        self._named_a_host = False  # that refuses

    def __len__(self) -> int:
        return self._waiting

    def _host(self, name: str) -> _Host:
        if name not in self._hosts:
            if len(self._hosts) >= self._sweep_at:
                self._sweep()
            self._hosts[name] = _Host(self._interval_s)
        return self._hosts[name]

    def add(self, job: FetchJob, *, first: bool = False) -> None:
        """Adds a job, before or behind the others of its host."""
        self._waiting += 1
        self._join(job, first)

    def add_later(self, job: FetchJob, seconds: float) -> None:
        """Adds a job that is to be tried again."""
        self._waiting += 1
        self._push(time.monotonic() + seconds, job)

    def _push(self, due: float, what: "_Host | FetchJob") -> None:
        heapq.heappush(self._later, (due, next(self._count), what))

    def _join(self, job: FetchJob, first: bool = False) -> None:
        host = self._host(job.host)
        if host.given_up is not None:
            if time.monotonic() < host.until:
                self._waiting -= 1
                self.refused_jobs.append((job, host.given_up))
                return
            host.given_up, host.silences = None, host.silences - 1
        (host.jobs.appendleft if first else host.jobs.append)(job)
        self._offer(host)

    def _offer(self, host: _Host) -> None:
        at_most = self._settings.connections_per_host
        if host.is_offered or not host.jobs or host.busy >= at_most:
            return
        if host.free_at - time.monotonic() > self._settings.shard_timeout_s:
            self._refuse(host, "deadline")  # by a Crawl-delay of days: no shard waits for that
            return
        host.is_offered = True
        if host.free_at > time.monotonic():
            self._push(host.free_at, host)
        else:
            self._ready.append(host)

    def _refuse(self, host: _Host, detail: str) -> None:
        self._waiting -= len(host.jobs)
        self.refused_jobs.extend((job, detail) for job in host.jobs)
        host.jobs.clear()

    def take(self) -> FetchJob | None:
        """The next job that may begin now, which then counts as under way; or None. Where its
        request begins, `note_start` is to be told, before another is taken."""
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            due = heapq.heappop(self._later)[2]
            if isinstance(due, FetchJob):
                self._join(due)
            else:
                due.is_offered = False
                self._offer(due)
        while self._ready:
            host = self._ready.popleft()
            host.is_offered = False
            if not host.jobs:
                continue
            if host.free_at > now:  # it was held since
                self._offer(host)
                continue
            host.busy += 1
            self._waiting -= 1
            job = host.jobs.popleft()
            self._offer(host)
            return job
        return None

    def note_start(self, name: str) -> None:
        """A request to this host begins."""
        host = self._hosts[name]
        host.free_at = max(host.free_at, time.monotonic() + host.interval_s)

    def put_back(self, job: FetchJob) -> None:
        """A job was under way without a request, since its host's name was not known."""
        host = self._hosts[job.host]
        host.busy -= 1
        host.jobs.appendleft(job)
        self._waiting += 1
        self._offer(host)

    def note_end(self, name: str, *, silent: str | None = None) -> None:
        """A job of this host is no longer under way.

        Args:
          silent: its detail where the host gave no answer at all.
        """
        host = self._hosts[name]
        host.busy -= 1
        host.silences = host.silences + 1 if silent else 0
        most = self._settings.max_host_failures
        if silent and most and host.silences >= most and host.until < math.inf:
            host.given_up, host.until = silent, time.monotonic() + GIVEN_UP_S
            self._refuse(host, silent)
        self._offer(host)

    def note_answer(self, name: str, *, is_refusal: bool) -> None:
        """A host gave its last response to one of our images.

        A host that refuses its first images, and gives none, is left alone for the rest of the run.
        """
        host = self._hosts[name]
        if not is_refusal:
            host.refusals = -1
        elif host.refusals >= 0:
            host.refusals += 1
        if host.refusals >= MOST_REFUSALS and host.until < math.inf:
            host.given_up, host.until = "host_refuses", math.inf
            self._refuse(host, "host_refuses")
            if not self._named_a_host:
                self._named_a_host = True
                LOG.warning(
                    "%s refused its first %d images and is left alone in this run, as other such "
                    "hosts will be: alignset grow OUT --retry_failed=host_refuses asks them again",
                    *(name, MOST_REFUSALS),
                )

    def _sweep(self) -> None:
        """Forgets hosts that nothing is known of any more, or nothing that still holds."""
        now = time.monotonic()
        self._hosts = {
            name: host
            for name, host in self._hosts.items()
            if host.jobs or host.busy or host.is_offered or now < max(host.free_at, host.until)
        }
        self._sweep_at = max(_SWEPT_HOSTS, 2 * len(self._hosts))

    def hold(self, name: str, seconds: float) -> None:
        """No request to this host begins for so long."""
        host = self._host(name)
        host.free_at = max(host.free_at, time.monotonic() + seconds)

    def slow_down(self, name: str, interval_s: float) -> None:
        """At least so many seconds pass between the requests to this host."""
        host = self._host(name)
        host.interval_s = max(host.interval_s, interval_s)

    def due_s(self) -> float:
        """How long nothing can begin unless something ends: seconds, at most 1. Ask it when
        `take` gave None."""
        if not self._later:
            return 1.0
        return min(1.0, max(0.0, self._later[0][0] - time.monotonic()))

    def remove(self, is_meant: Callable[[FetchJob], bool]) -> list[FetchJob]:
        """Removes the jobs that wait."""
        jobs = [what for _, _, what in self._later if isinstance(what, FetchJob) and is_meant(what)]
        ids = {id(job) for job in jobs}
        self._later = [entry for entry in self._later if id(entry[2]) not in ids]
        heapq.heapify(self._later)
        for host in self._hosts.values():
            of_host = [job for job in host.jobs if is_meant(job)]
            if of_host:
                host.jobs = deque(job for job in host.jobs if not is_meant(job))
                jobs += of_host
        self._waiting -= len(jobs)
        return jobs
