"""Shards that other workers were given: taken over by one that has written its own.

Flink gives all shards out at the start, so a worker that is slow would hold its part to the end
(docs/scale.md). What MapReduce calls backup tasks (Dean and Ghemawat, 2004, section 3.6).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from alignset.transforms.workers.claims import Mark

POLL_S = 1.0
PATIENCE_S = 30.0  # a shard with one silent host takes no less


class Shards(Protocol):
    """The shards of a run.

    Fields:
      slowest_s: what this worker's slowest attempt took, s.
    """

    slowest_s: float

    def check(self) -> None:
        """Raises where this worker may no more write."""

    def finished(self, shard: int) -> bool:
        """Whether it is written."""

    def begun(self, shard: int) -> Mark | None:
        """The mark of the attempt that was begun last, None where there is none."""

    def attempt(self, shard: int) -> None:
        """Writes it, unless another attempt is faster."""


def take_over(
    left: Iterable[int],
    shards: Shards,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Returns when all are written: by this worker what nobody has begun, in any order, and then
    what an attempt elsewhere has taken half as long again for as this worker ever took.

    Each further attempt is given twice the time of the one before. In an object store the one that
    began last is to publish, so workers who know no better would else stop each other without end.
    """
    waiting = set(left)
    first_seen: dict[tuple[int, Mark | None], float] = {}
    while waiting:
        shards.check()
        for shard in random.sample(sorted(waiting), len(waiting)):
            if shards.finished(shard):
                waiting.discard(shard)
                continue
            mark, now = shards.begun(shard), clock()
            waited = now - first_seen.setdefault((shard, mark), now)
            patience_s = max(PATIENCE_S, 1.5 * shards.slowest_s)
            if not mark or waited >= patience_s * 2 ** (mark.attempt - 1):
                shards.attempt(shard)
        if waiting:
            sleep(POLL_S)
