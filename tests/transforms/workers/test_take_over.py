"""What a worker does that has written its own shards."""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from alignset.transforms.workers.claims import Mark
from alignset.transforms.workers.fencing import SupersededError
from alignset.transforms.workers.take_over import PATIENCE_S, POLL_S, take_over


class Attempt(NamedTuple):
    """Of another worker: the mark it left, and when it will have written the shard, s."""

    name: str
    done_s: float
    number: int = 1

    @property
    def mark(self) -> Mark:
        return Mark("start", self.number, self.name)


class World:
    """Shards, some of which others write, on a clock that goes on where somebody sleeps."""

    slowest_s, superseded_s = 0.0, float("inf")

    def __init__(self, others: dict[int, Attempt], took_s: float = 1.0) -> None:
        self.others, self.took_s = others, took_s
        self.now_s = 0.0
        self.written: dict[int, float] = {}

    def finished(self, shard: int) -> bool:
        ends = self.others[shard].done_s if shard in self.others else float("inf")
        return shard in self.written or ends <= self.now_s

    def check(self) -> None:
        if self.now_s >= self.superseded_s:
            raise SupersededError

    def begun(self, shard: int) -> Mark | None:
        return self.others[shard].mark if shard in self.others else None

    def attempt(self, shard: int) -> None:
        assert not self.finished(shard)
        self.now_s += self.took_s
        self.slowest_s = max(self.slowest_s, self.took_s)
        self.written[shard] = self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def run(self, shards: int, slept: Callable[[float], None] | None = None) -> None:
        take_over(range(shards), self, clock=lambda: self.now_s, sleep=slept or self.sleep)


def test_a_worker_of_an_earlier_start_does_not_wait_on():
    world = World({0: Attempt("slow", 1000.0)})
    world.superseded_s = 5.0
    with pytest.raises(SupersededError):
        world.run(1)
    assert world.now_s == 5.0


def test_what_nobody_has_begun_comes_first_and_what_others_write_is_waited_for():
    world = World({0: Attempt("a", 5.0), 1: Attempt("b", 7.0)})
    world.run(5)
    assert world.written.keys() == {2, 3, 4}
    assert 7.0 <= world.now_s <= 7.0 + POLL_S


def test_a_dead_worker_is_not_waited_for_long():
    world = World({0: Attempt("dead", float("inf"))})
    world.run(1)
    assert PATIENCE_S + 1 <= world.written[0] <= PATIENCE_S + 1 + POLL_S


def test_what_takes_long_here_may_take_half_as_long_again_elsewhere():
    world = World({0: Attempt("slow", 1000.0), 1: Attempt("not slow", 290.0)}, took_s=200.0)
    world.run(3)
    assert world.written.keys() == {0, 2}
    # Seen for the first time at 0 or, after this worker's own, at 200.
    assert 300.0 <= world.written[0] - 200.0 <= 500.0 + POLL_S


def test_each_further_attempt_is_given_twice_the_time():
    """Where the last one is to publish, workers must not stop each other without end."""
    world = World({0: Attempt("third", float("inf"), 3)})
    world.run(1)
    assert 4 * PATIENCE_S + 1 <= world.written[0] <= 4 * PATIENCE_S + 1 + POLL_S


def test_an_attempt_that_begins_meanwhile_gets_its_time():
    """Two idle workers do not both take over the same shard."""
    world = World({0: Attempt("dead", float("inf"))})

    def slept(seconds: float) -> None:
        world.now_s += seconds
        if world.now_s == PATIENCE_S - POLL_S:
            world.others[0] = Attempt("another", world.now_s + PATIENCE_S - POLL_S)

    world.run(1, slept)
    assert not world.written
