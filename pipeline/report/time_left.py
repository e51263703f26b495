"""How long the shards that are left will take, from how long those before them took."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

# Of what is behind, the share that tells of what comes: its beginning is slower, while names and
# robots.txt of hosts are not at hand and connections are few.
WINDOW = 0.8
STEPS = 16  # of a shard's pairs, at which its time is taken
# Of a shard's time, when all its pairs are done and no shard was whole yet.
_UNKNOWN = 0.95
_MOST_POINTS = 2000  # of the past, which are thinned out
_MOST_LEFT = 2000  # shards that are dealt out one by one; with more, the end is a small part
_WAVE = 1.5  # times what the first shard took: by then the other workers' first ones are whole too


class Attempt(NamedTuple):
    """What a worker has done of a shard: how many pairs; and which process it is."""

    pairs: int
    process: str = ""


@dataclass
class _Course:
    """When a shard that is under way had which share of its pairs.

    Attributes:
      begun: s. reached: s after that, at which each step of its pairs was reached.
      share: of its pairs that are done. process: that has done most of it.
    """

    begun: float
    share: float = 0.0
    process: str = ""
    reached: list[float] = field(default_factory=list)

    def advance(self, now: float, share: float, process: str) -> None:
        if share >= self.share:
            self.share, self.process = share, process
        steps = min(STEPS, int(share * STEPS))
        self.reached += [now - self.begun] * (steps - len(self.reached))


@dataclass(frozen=True)
class _Point:
    """What was done at a moment.

    Attributes:
      at: s. whole: pairs of shards that this start has ended.
      under_way: of each other shard the share of its pairs, and how many it has.
    """

    at: float
    whole: int = 0
    under_way: tuple[tuple[float, int], ...] = ()


class _Profile:
    """Which share of a shard's time is over when a share of its pairs is done: the last pairs come
    late, from hosts that do not answer, and behind them the shard is still to be written."""

    def __init__(self) -> None:
        self._sums, self._shards = [0.0] * STEPS, 0

    def learn(self, course: _Course, took_s: float) -> None:
        if took_s <= 0 or not course.reached:  # too quick to be looked at
            return
        times = course.reached + [took_s] * (STEPS - len(course.reached))
        for step, at in enumerate(times):
            self._sums[step] += min(1.0, at / took_s)
        self._shards += 1

    def work(self, point: _Point) -> float:
        """What was done at a moment, in pairs: those of a shard under way by its time."""
        return point.whole + sum(self.time_share(share) * size for share, size in point.under_way)

    def time_share(self, pair_share: float) -> float:
        """0 to 1."""
        if not self._shards:
            return _UNKNOWN * pair_share
        place = min(STEPS, pair_share * STEPS)
        step = int(place)
        known = [0.0, *(total / self._shards for total in self._sums)]
        after = known[min(STEPS, step + 1)]
        return known[step] + (after - known[step]) * (place - step)


class TimeLeft:
    """Estimates, from look to look, when all shards will be whole.

    Where workers can be looked at, their shards under way count by the share of their time that is
    over. Where they cannot, whole shards alone count, which come in waves.

    Args:
      sizes: how many pairs each planned shard has, by its number.
      now: s, of any clock.
      whole: shards that an earlier start has finished, which tell nothing of this one's speed.
    """

    def __init__(self, sizes: Mapping[int, int], now: float, whole: Collection[int] = ()) -> None:
        self._left = {shard: size for shard, size in sizes.items() if shard not in whole}
        self._pairs_left = sum(self._left.values())
        self._looked, self._done = now, 0
        self._courses: dict[int, _Course] = {}
        self._profile = _Profile()
        self._behind = [_Point(now)]  # at each moment when there was more done
        self._workers_in_sight = False
        self._ends: list[float] = []  # s, at which shards were whole

    @property
    def begun(self) -> float:
        """s: when this start's first worker was at its first shard, or the first look was."""
        return self._behind[0].at

    def look(self, now: float, ended: Collection[int], attempts: Mapping[int, Attempt]) -> None:
        """Takes in what is there at a moment.

        Args:
          now: s, not before the last look. ended: shards that are whole since the last look.
          attempts: at shards under way, of those workers that can be seen.
        """
        self._begin(bool(attempts))
        for shard in ended:
            self._end(shard, now)
        for shard, attempt in attempts.items():
            if size := self._left.get(shard):
                begun = self._looked if attempt.pairs else now
                course = self._courses.setdefault(shard, _Course(begun))
                course.advance(now, min(1.0, attempt.pairs / size), attempt.process)
        self._looked = now
        under_way = tuple((course.share, self._left[n]) for n, course in self._courses.items())
        self._behind.append(_Point(now, self._done, under_way))
        if len(self._behind) > _MOST_POINTS:
            del self._behind[1:-1:2]

    def _begin(self, in_sight: bool) -> None:
        """The time of this start begins when a worker is first seen at a shard."""
        if in_sight and not self._workers_in_sight and not self._done:
            self._behind = [_Point(self._looked)]
        self._workers_in_sight = self._workers_in_sight or in_sight

    def _end(self, shard: int, now: float) -> None:
        size = self._left.pop(shard)
        self._done += size
        self._pairs_left -= size
        course = self._courses.pop(shard, None)
        if course:
            self._profile.learn(course, now - course.begun)
        self._ends.append(now)

    @property
    def seconds(self) -> float | None:
        """From the last look on; None while nothing tells it."""
        if not self._workers_in_sight:
            return self._by_waves()
        pairs_a_second = self._speed()
        if not pairs_a_second:
            return None
        if len(self._left) > _MOST_LEFT or not self._courses:
            begun_and_done = self._profile.work(self._behind[-1]) - self._done
            return (self._pairs_left - begun_and_done) / pairs_a_second
        processes: dict[str, float] = {}
        for shard, course in self._courses.items():
            left_s = self._left_of(course, self._left[shard] / pairs_a_second)
            processes[course.process] = processes.get(course.process, 0.0) + left_s
        waiting = [s / pairs_a_second for n, s in self._left.items() if n not in self._courses]
        return _dealt_out([*processes.values()], waiting)

    def _left_of(self, course: _Course, whole_s: float) -> float:
        """s of all workers together, for what is left of a shard: the farther it is, the more by
        its own speed, since no two shards are alike.

        Args:
          whole_s: s for all of such a shard, by the speed of all.
        """
        share = self._profile.time_share(course.share)
        common = (1 - share) * whole_s
        if not share:
            return common
        own = (self._looked - course.begun) * (1 - share) / share / max(1, len(self._courses))
        return share * own + (1 - share) * common

    def _speed(self) -> float:
        """Pairs a second; 0 while unknown."""
        begin, last = self._behind[0], self._behind[-1]
        since = last.at - (last.at - begin.at) * WINDOW
        begin = self._behind[bisect_right(self._behind, since, key=lambda point: point.at) - 1]
        took_s = last.at - begin.at
        return (self._profile.work(last) - self._profile.work(begin)) / took_s if took_s else 0.0

    def _by_waves(self) -> float | None:
        """s until all is whole, where no worker is in sight: as many shards are under way as were
        whole in the first wave, so that each ends some time after the one so many before it."""
        begun, ends = self._behind[0].at, self._ends
        if not ends or self._looked - begun < _WAVE * (ends[0] - begun):
            return None
        workers = bisect_right(ends, begun + _WAVE * (ends[0] - begun))
        times = [begun] * workers + ends
        since = max(int((1 - WINDOW) * len(ends)), len(ends) - _MOST_POINTS)
        gaps = [b - a for a, b in zip(times[since:], ends[since:], strict=False)]
        a_shard_s = sum(gaps) / len(gaps)
        waves = -(-len(self._left) // workers)
        last = times[len(times) - 1 + len(self._left) - waves * workers] + waves * a_shard_s
        late = self._looked - (times[len(times) - workers] + a_shard_s)
        return max(0.0, last + max(0.0, late) - self._looked)


def _dealt_out(under_way: list[float], waiting: list[float]) -> float:
    """s until the last shard ends, where each worker takes the next one when it has ended its own.

    Args:
      under_way, waiting: s of all workers together, for what is left of each shard.
    """
    workers = len(under_way)
    free = [seconds * workers for seconds in under_way]
    heapq.heapify(free)
    for seconds in waiting:
        heapq.heapreplace(free, free[0] + seconds * workers)
    return max(free)
