"""How many connections: what each sight leads to, and where the limit ends up on made lines."""

import dataclasses
import heapq
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignset.transforms.fetching import connection_limit
from alignset.transforms.fetching.connection_limit import (
    FIRST,
    BodyMemory,
    ConnectionLimit,
    Interval,
    usable_cores,
    usable_memory,
)
from tests.support.root import ROOT

GOOD = Interval(
    seconds=1.0, most=64, answers=100, answer_s=50.0, names=100, wanted=True, cpu_share=0.3
)


def reviewed(cap: int = 4096, sockets: int = 9000, **changes: object) -> ConnectionLimit:
    """A limit after a good interval and one with these changes."""
    limit = ConnectionLimit(cap, sockets)
    for _ in range(500):
        limit.note_answer()
    limit.review(GOOD)
    limit.review(dataclasses.replace(GOOD, **changes))
    return limit


@pytest.mark.parametrize(
    ("changes", "limited_by", "falls"),
    [
        ({}, "rising", False),
        ({"cpu_share": 0.89}, "rising", False),
        ({"cpu_share": 0.9}, "CPU", True),
        ({"behind": True}, "CPU", True),
        ({"short_of_memory": True}, "memory", True),
        ({"wanted": False}, "hosts", False),
        ({"troubles": 15}, "rising", False),
        ({"troubles": 18}, "time-outs", True),
        ({"unnamed": 36}, "rising", False),
        ({"unnamed": 41}, "name server", True),
        ({"answers": 5, "troubles": 5}, "rising", False),  # too few to conclude anything
    ],
)
def test_what_limits(changes: dict, limited_by: str, falls: bool):
    limit = reviewed(**changes)
    assert limit.limited_by == limited_by
    assert (limit.now < FIRST + 500) == falls


def test_where_nothing_more_could_begin_it_stays_and_then_goes_on_rising():
    limit = reviewed(wanted=False)
    before = limit.now
    for _ in range(1_000):
        limit.note_answer()
    assert (limit.now, limit.limited_by) == (before, "hosts")
    limit.review(GOOD)
    limit.note_answer()
    assert (limit.now, limit.limited_by) == (before + 1, "rising")
    assert limit.stalled_s == 2.0
    limit.review(dataclasses.replace(GOOD, answer_s=150.0))  # the quickest is what counts
    assert limit.stalled_s == pytest.approx(2.0, abs=0.1)


def test_at_the_cap_it_says_whose_it_is():
    assert reviewed(cap=100).limited_by == "--connections"
    assert reviewed(cap=100).now == 100
    assert reviewed(sockets=100).limited_by == "open files"
    assert reviewed(cap=1).now == 1
    assert reviewed(cap=1, behind=True).now == 1


def test_silent_connections_are_no_reason_to_open_no_others():
    """2,000 hosts that accept and never answer, at the beginning of a list."""
    limit, open_now, stalled = ConnectionLimit(4096, 9000), 0, 0
    for half_second in range(24):
        open_now = max(open_now, stalled + limit.now)
        stalled = open_now if half_second % 4 == 3 else stalled
        limit.review(Interval(0.5, most=open_now - stalled, stalled=stalled, wanted=True))
    assert stalled >= 2000
    slow = ConnectionLimit(4096, 9000)
    for _ in range(24):  # a slow line on which all bring something
        slow.review(Interval(seconds=0.5, most=slow.now, wanted=True))
    assert slow.now == FIRST


class Line:
    """A made web behind a line of so many answers a second: the rest of what is asked queues."""

    def __init__(self, limit: ConnectionLimit, rate: float, latency_s: float) -> None:
        self.limit, self.rate, self.latency_s = limit, rate, latency_s
        self.random = Random(1)
        self.now = 0.0
        self.ends: list[tuple[float, float]] = []

    def run(self, seconds: float) -> float:
        """Keeps as many under way as the limit lets; gives the answers a second."""
        until, seen, reviewed_at, total = self.now + seconds, Interval(wanted=True), self.now, 0
        while self.now < until:
            while len(self.ends) < self.limit.now:
                ready = self.now + self.random.lognormvariate(-0.32, 0.8) * self.latency_s
                heapq.heappush(self.ends, (ready, self.now))
            seen.most = max(seen.most, len(self.ends))
            ready, begun = heapq.heappop(self.ends)
            self.now = max(ready, self.now + 1 / self.rate)
            seen.answers, seen.answer_s = seen.answers + 1, seen.answer_s + self.now - begun
            total += 1
            self.limit.note_answer()
            if self.now - reviewed_at >= self.limit.review_s:
                seen.seconds, reviewed_at = self.now - reviewed_at, self.now
                self.limit.review(seen)
                seen = Interval(wanted=True)
        return total / seconds


def test_where_nothing_queues_it_rises_to_the_cap():
    limit = ConnectionLimit(4096, 9000)
    assert (limit.now, limit.limited_by) == (FIRST, "rising")
    Line(limit, rate=1e6, latency_s=0.5).run(4)
    assert (limit.now, limit.limited_by) == (4096, "--connections")


@pytest.mark.parametrize("rate", [50, 400])
def test_on_a_full_line_it_stays_near_what_the_line_needs(rate: int):
    """By Little's law the line needs rate * 0.5 s; the line stays full all the same."""
    limit = ConnectionLimit(4096, 9000)
    line = Line(limit, rate, latency_s=0.5)
    line.run(60)
    most = []
    for _ in range(30):
        answered = line.run(2)
        most.append(limit.now)
        assert answered >= 0.7 * rate
    assert sorted(most)[len(most) // 2] <= max(4 * rate * 0.5, FIRST)
    assert max(most) < 4096


ASK = """
import logging, resource, sys
logging.basicConfig(format="%(message)s")
from alignset.transforms.fetching import connection_limit
from alignset.transforms.fetching.connection_limit import socket_limit
for soft, hard, wanted in ((40, 4000, 16), (256, 4000, 4096), (256, 256, 16), (100, 100, 4096)):
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, min(hard, resource.getrlimit(7)[1])))
    print(socket_limit(wanted), socket_limit(wanted), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def test_open_files_limit_the_sockets_and_few_are_told_of_once():
    command = [sys.executable, "-c", ASK]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [[int(word) for word in line.split()] for line in done.stdout.splitlines()]
    assert all(first == again for first, again, _ in lines)
    assert [soft for *_, soft in lines] == [4000, 4000, 256, 100]  # raised as far as may be
    sockets = [first for first, *_ in lines]
    assert sockets[0] == sockets[2] == 2 * 16 + 64
    assert 3000 < sockets[1] <= 4000 - 64
    assert 1 <= sockets[3] <= 100 - 64
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"this process may open 100 files, so at most {sockets[3]} connections")
    assert "ulimit -n" in line


# The bytes of answers: never more than allowed but for one answer, and all end.


class Transfer:
    """An answer that comes in parts, each as soon as it is let."""

    def __init__(self, memory: BodyMemory, parts: list[int]) -> None:
        self.memory, self.parts, self.had = memory, parts, 0
        self.held_back = False

    def resume(self) -> None:
        self.held_back = False
        self.go_on()

    def go_on(self) -> None:
        if self.parts and not self.held_back:
            if self.memory.admits(self, self.parts[0]):
                self.had += self.parts.pop(0)
            else:
                self.held_back = True


@given(st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=9), max_size=30), st.integers(0))
def test_the_bound_holds_and_all_end(answers: list[list[int]], seed: int):
    memory, random = BodyMemory(100), Random(seed)
    transfers = [Transfer(memory, list(parts)) for parts in answers]
    largest = max((sum(parts) for parts in answers), default=0)
    rounds = 0
    while transfers:
        random.choice(transfers).go_on()
        assert memory.held_bytes <= 100 + largest
        for done in [one for one in transfers if not one.parts]:
            memory.note_end(done, done.had)
            transfers.remove(done)
        memory.resume()
        rounds += 1
        assert rounds < 20_000
    assert memory.held_bytes == 0
    assert not memory.holds_back


BOUND = len(os.sched_getaffinity(0))


@pytest.fixture
def cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(connection_limit, "CGROUPS", tmp_path)
    (tmp_path / "cpu").mkdir()
    (tmp_path / "memory").mkdir()
    return tmp_path


def test_what_a_container_may_use_is_the_least_of_what_is_said(cgroups: Path):
    assert usable_cores() == BOUND
    for quota, cores in (
        *(("max 100000\n", BOUND), ("50000 100000\n", 0.5), ("nothing of the kind\n", BOUND)),
        (f"{(BOUND + 1) * 100_000} 100000\n", BOUND),
    ):
        (cgroups / "cpu.max").write_text(quota)
        assert usable_cores() == cores
    for quota, cores in (("25000\n", BOUND), ("25000\n", 0.25), ("-1\n", BOUND)):
        (cgroups / "cpu/cpu.cfs_quota_us").write_text(quota)
        assert usable_cores() == cores
        (cgroups / "cpu/cpu.cfs_period_us").write_text("100000\n")
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert usable_memory() == whole
    (cgroups / "memory.max").write_text("max\n")
    assert usable_memory() == whole
    (cgroups / "memory/memory.limit_in_bytes").write_text(f"{1 << 20}\n")
    assert usable_memory() == 1 << 20
