"""The real fetcher on a clock of its own: what it takes where answers come after given delays."""

import heapq
from collections.abc import Sequence
from typing import NamedTuple
from unittest import mock

from transforms.fetching import fetch, host_queue
from transforms.fetching.curl_multi import Ended
from transforms.fetching.fetch import FetchSettings, fetch_all
from transforms.fetching.host_queue import Job


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


class _Simulated:
    """Stands where the fetcher's transfers and its clock stand."""

    def __init__(self, settings: FetchSettings, answers: Sequence[Answer]) -> None:
        self.settings, self.answers, self.now = settings, answers, 0.0
        self.ends: list[tuple[float, int, Job, Answer]] = []

    def monotonic(self) -> float:
        return self.now

    @property
    def under_way(self) -> int:
        return len(self.ends)

    @property
    def has_room(self) -> bool:
        return len(self.ends) < self.settings.connections

    def start(self, job: Job) -> None:
        answer = self.answers[job.index]
        longest = min(self.settings.timeout_s, self.settings.idle_timeout_s)
        if answer.delay_s > longest and not answer.measured:
            answer = Answer(answer.host, longest, "timeout", silent=True)
        heapq.heappush(self.ends, (self.now + answer.delay_s, job.index, job, answer))

    def wait(self, at_most_s: float) -> list[Ended]:
        due = self.now + at_most_s
        self.now = min(due, self.ends[0][0]) if self.ends else due
        ended = []
        while self.ends and self.ends[0][0] <= self.now:
            _, _, job, answer = heapq.heappop(self.ends)
            body = None if answer.detail else b""
            ended.append(Ended(job, body, answer.detail, None, answer.delay_s, answer.silent))
        return ended

    def abandon(self) -> list[Job]:
        jobs, self.ends = [end[2] for end in self.ends], []
        return jobs

    def close(self) -> None:
        pass


def shard_seconds(answers: Sequence[Answer], settings: FetchSettings) -> float:
    """How long the fetcher takes until it has all."""
    simulated = _Simulated(settings, answers)
    with (
        mock.patch.object(fetch, "Transfers", return_value=simulated),
        mock.patch.object(fetch, "time", simulated),
        mock.patch.object(host_queue, "time", simulated),
    ):
        count = sum(1 for _ in fetch_all([f"http://h{a.host}.example/" for a in answers], settings))
    assert count == len(answers)
    return simulated.now
