"""The real fetcher on a clock of its own: what it takes where answers come after given delays."""

import heapq
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast
from unittest import mock

from alignset.transforms.fetching import fetcher, host_queue, orders
from alignset.transforms.fetching.curl_handle import Ended
from alignset.transforms.fetching.curl_multi import Transfers
from alignset.transforms.fetching.fetch_settings import FetchSettings
from alignset.transforms.fetching.fetcher import Fetcher
from alignset.transforms.fetching.host_queue import Job
from alignset.transforms.fetching.orders import Order


class Answer(NamedTuple):
    """What comes of a transfer.

    Fields:
      delay_s: until it ends. detail: why it fails. silent: not a byte came.
      measured: a delay that a fetcher saw, which has cut off what was too slow.
    """

    host: int
    delay_s: float
    detail: str | None = None
    silent: bool = False
    measured: bool = False


class _NoNames:
    """Hosts' names, which are all known."""

    ended_count = unanswered_count = 0


class _Simulated:
    """Stands where the fetcher's transfers and its clock stand."""

    def __init__(self, settings: FetchSettings, answers: Sequence[Answer]) -> None:
        self.settings, self.answers, self.now = settings, answers, 0.0
        self.ends: list[tuple[float, int, Job, Answer]] = []
        self._started = 0
        self.waited_s, self.stalled = 0.0, 0
        self.names = _NoNames()

    def monotonic(self) -> float:
        return self.now

    @property
    def under_way(self) -> int:
        return len(self.ends)

    def process_time(self) -> float:
        return 0.0

    def ring(self) -> None:
        pass

    def look_for_stalled(self, seconds: float) -> None:
        """Counts none: all that is under way here brings something in the end."""

    def start(self, job: Job) -> bool:
        answer = self.answers[job.index]
        longest = min(self.settings.timeout_s, self.settings.idle_timeout_s)
        if answer.delay_s > longest and not answer.measured:
            answer = Answer(answer.host, longest, "timeout", silent=True)
        self._started += 1  # jobs have no order of their own
        heapq.heappush(self.ends, (self.now + answer.delay_s, self._started, job, answer))
        return True

    def wait(self, at_most_s: float) -> list[Ended]:
        due, before = self.now + at_most_s, self.now
        self.now = min(due, self.ends[0][0]) if self.ends else due
        self.waited_s += self.now - before
        ended = []
        while self.ends and self.ends[0][0] <= self.now:
            _, _, job, answer = heapq.heappop(self.ends)
            body = None if answer.detail else b""
            was_asked = answer.detail == "timeout"
            ended.append(
                Ended(
                    job,
                    body,
                    answer.detail,
                    took_s=answer.delay_s,
                    silent=answer.silent,
                    was_asked=was_asked,
                )
            )
        return ended

    def remove(self, is_meant: Callable[[Job], bool]) -> list[Job]:
        jobs = [end[2] for end in self.ends if is_meant(end[2])]
        self.ends = [end for end in self.ends if not is_meant(end[2])]
        heapq.heapify(self.ends)
        return jobs

    def close(self) -> None:
        pass


class _NeverBehind(Order):
    """Of a caller that looks at each result at once."""

    @property
    def unseen(self) -> int:
        return 0


def shard_seconds(answers: Sequence[Answer], settings: FetchSettings) -> float:
    """How long the fetcher takes until it has all."""
    simulated = _Simulated(settings, answers)
    order = _NeverBehind([f"http://h{a.host}.example/" for a in answers], settings.shard_timeout_s)
    with (
        mock.patch.object(fetcher, "time", simulated),
        mock.patch.object(host_queue, "time", simulated),
        mock.patch.object(orders, "time", simulated),
    ):
        order.begin()
        real = Fetcher(settings, cast(Transfers, simulated))
        real.add(order)
        while not order.over:
            real.turn()
    assert order.next_index == len(answers)
    return simulated.now
