"""The time that is left, against runs that are simulated: shards of other costs, slow last pairs,
workers that share what limits them or do not, that are out of sight, a run that goes on."""

import random
from dataclasses import dataclass, field

import pytest

from alignset.pipeline.report.time_left import Attempt, TimeLeft

LOOK_S = 2.0
START_S = 4.0  # of workers
SEEDS = range(5)


@dataclass
class Simulated:
    """A run of shards.

    Attributes:
      variation: of what shards cost, as a coefficient. pair_s: that a pair costs.
      late: above 1, the pace falls within a shard. writing: of a shard's time, when its pairs are
        done. shared: whether few workers do as much as many. earlier: shards that are whole before.
    """

    shards: int = 40
    workers: int = 4
    variation: float = 0.1
    pair_s: float = 0.05
    late: float = 1.0
    writing: float = 0.03
    shared: bool = False
    in_sight: bool = True
    earlier: int = 0
    slow_start: float = 0.0

    def run(self, seed: int) -> list[tuple[float, float | None, float]]:
        """At each look: when it was, what was told to be left, what was left in fact; s."""
        rng = random.Random(seed)
        sizes = {shard: round(rng.gauss(1000, 30)) for shard in range(self.shards)}
        cost = {n: size * self.pair_s * rng.gauss(1, self.variation) for n, size in sizes.items()}
        web = _Web(self, [*range(self.earlier, self.shards)], cost, sizes)
        left, told, now, whole = TimeLeft(sizes, 0.0, range(self.earlier)), [], 0.0, self.earlier
        while whole + len(web.whole) < self.shards:
            now += LOOK_S
            ended = web.advance(now)
            left.look(now, ended, web.attempts() if self.in_sight else {})
            told.append((now, left.seconds))
        return [(at, seconds, now - at) for at, seconds in told]


@dataclass
class _Web:
    of: Simulated
    waiting: list[int]
    cost: dict[int, float]
    sizes: dict[int, int]
    under_way: dict[int, float] = field(default_factory=dict)  # s of its cost that are over
    whole: set[int] = field(default_factory=set)

    def advance(self, now: float) -> list[int]:
        ended = []
        for _ in range(4 if now > START_S else 0):
            while self.waiting and len(self.under_way) < self.of.workers:
                self.under_way[self.waiting.pop(0)] = 0.0
            pace = self.of.workers / max(1, len(self.under_way)) if self.of.shared else 1.0
            if now < 30:
                pace *= 1 - self.of.slow_start
            for shard in [*self.under_way]:
                self.under_way[shard] += LOOK_S / 4 * pace
                if self.under_way[shard] >= self.cost[shard]:
                    del self.under_way[shard]
                    ended.append(shard)
        self.whole.update(ended)
        return ended

    def attempts(self) -> dict[int, Attempt]:
        attempts = {}
        for shard, over_s in self.under_way.items():
            share = min(1.0, over_s / self.cost[shard] / (1 - self.of.writing))
            pairs = self.sizes[shard] * (1 - (1 - share) ** self.of.late)
            attempts[shard] = Attempt(int(pairs), "1" if self.of.shared else str(shard))
        return attempts


def wrong_looks(run: Simulated, since: float, seed: int) -> tuple[list[tuple], int]:
    """The looks after a share of the run at which what was told was wrong by more than a fifth of
    what was left and by more than a twenty-fifth of the run; and of how many looks."""
    looks = run.run(seed)
    end = looks[-1][0]
    looks = [look for look in looks if look[0] >= since * end]
    wrong = [
        (at, told, left)
        for at, told, left in looks
        if told is None or abs(told - left) > max(0.2 * left, 0.04 * end)
    ]
    return wrong, len(looks)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "run",
    [
        Simulated(),
        Simulated(workers=1),
        Simulated(shards=12, workers=1, variation=0.05),
        Simulated(shards=1, workers=1, pair_s=0.3),
        Simulated(shards=3, workers=3, pair_s=0.3),
        Simulated(shared=True),
        Simulated(shards=200, workers=8, variation=0.2, late=1.4, writing=0.1),
        Simulated(shards=200, workers=4, slow_start=0.5, shared=True, late=1.4),
        Simulated(shards=60, earlier=30),
    ],
    ids=str,
)
def test_from_a_tenth_of_the_run_on_it_is_right_to_a_fifth(run: Simulated, seed: int):
    wrong, looks = wrong_looks(run, 0.1, seed)
    assert len(wrong) <= 0.03 * looks, (seed, wrong)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "run",
    [
        Simulated(shards=200, workers=8, in_sight=False),
        Simulated(shards=400, workers=16, in_sight=False, variation=0.2),
        Simulated(shards=60, workers=4, in_sight=False, variation=0.05, earlier=10),
    ],
    ids=str,
)
def test_workers_out_of_sight_tell_by_what_is_whole(run: Simulated, seed: int):
    wrong, looks = wrong_looks(run, 0.15, seed)
    assert len(wrong) <= 0.05 * looks, (seed, wrong)


def test_nothing_is_told_before_anything_is_done():
    left = TimeLeft({0: 100, 1: 100}, 10.0)
    assert left.seconds is None
    left.look(15.0, (), {})
    assert left.seconds is None
    left.look(20.0, (), {0: Attempt(0)})
    assert left.seconds is None
    assert left.begun == 15.0  # the start of workers is no time of theirs


def test_what_was_whole_before_tells_nothing_of_the_speed():
    left = TimeLeft({shard: 100 for shard in range(10)}, 0.0, range(8))
    left.look(1.0, (), {8: Attempt(0)})
    left.look(11.0, (), {8: Attempt(50)})
    assert left.seconds == pytest.approx(30, rel=0.15)  # 150 pairs, 5 a second


def test_a_wave_that_is_late_is_waited_for():
    left = TimeLeft({shard: 100 for shard in range(4)}, 0.0)
    left.look(10.0, (0, 1), {})
    left.look(16.0, (), {})
    assert left.seconds == pytest.approx(4)
    left.look(35.0, (), {})
    assert left.seconds == pytest.approx(0)
    left = TimeLeft({shard: 100 for shard in range(6)}, 0.0)
    left.look(10.0, (0, 1), {})
    left.look(35.0, (), {})  # the next wave is due, and then the last one
    assert left.seconds == pytest.approx(10)


def test_an_attempt_that_begins_anew_takes_nothing_back():
    left = TimeLeft({0: 100}, 0.0)
    left.look(0.0, (), {0: Attempt(0)})
    left.look(10.0, (), {0: Attempt(50)})
    before = left.seconds
    left.look(10.0, (), {0: Attempt(3)})
    assert left.seconds == before


def test_as_many_shards_as_there_may_be_are_looked_at():
    shards = 50_000
    left = TimeLeft(dict.fromkeys(range(shards), 100), 0.0)
    for look in range(1, 6):
        ended = range(1000 * (look - 1), 1000 * look)
        left.look(100.0 * look, ended, {1000 * look: Attempt(10)})
    assert left.seconds == pytest.approx(100.0 * 45, rel=0.1)
    left.look(600.0, range(5000, shards), {})
    assert left.seconds == 0
