"""Several shards of one worker at once, so that none of its connections idles while a shard ends.

The next shard begins when few of the URLs of those before are left to be taken: its URLs follow
theirs, and they end beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event, Lock
from weakref import WeakSet

from alignset.transforms.shards.shard_stats import ShardStats
from alignset.transforms.workers.threads import Results, leave_stopped, stop_work

# Of a process so many always, and more while these have few pairs: a shard of 1,000 is taken in a
# second, and its last answer may come half a minute later.
FEW_SHARDS, MOST_SHARDS, MOST_PAIRS = 4, 24, 40_000
_LOOK_S = 0.02

_ALL: WeakSet[ShardsUnderWay] = WeakSet()  # of this process
_LOCK = Lock()


@dataclass(eq=False)
class Beginning:
    """State of a shard that was begun.

    Attributes:
      nearly_taken: set when the next may begin.
      pairs: how many it has; 0 before that is known.
    """

    nearly_taken: Event = field(default_factory=Event)
    pairs: int = 0


class ShardsUnderWay:
    """The shards that a bundle is at, each on a thread of its own. How many there may be is
    reckoned over all bundles of the process; each may have one.

    Args:
      write: writes a shard; on any thread.
    """

    def __init__(self, write: Callable[[int, Beginning], ShardStats]) -> None:
        self._write = write
        self._pool = ThreadPoolExecutor(MOST_SHARDS, thread_name_prefix="shard")
        self._running: dict[int, tuple[Beginning, Results[ShardStats]]] = {}
        self._is_stopped = False
        with _LOCK:
            _ALL.add(self)

    def begin(self, shard: int) -> None:
        """Begins a shard."""
        beginning = Beginning()
        results = Results(self._pool, lambda: [self._write(shard, beginning)])
        self._running[shard] = beginning, results

    @property
    def has_room(self) -> bool:
        """Whether another shard may begin."""
        running_here = self._not_done()
        if not running_here:
            return True
        with _LOCK:
            bundles = list(_ALL)
        running = [beginning for bundle in bundles for beginning in bundle._not_done()]
        pairs = sum(beginning.pairs for beginning in running)
        limit = MOST_SHARDS if pairs < MOST_PAIRS else FEW_SHARDS
        return len(running) < limit and running_here[-1].nearly_taken.is_set()

    def _not_done(self) -> list[Beginning]:
        running = list(self._running.values())  # another bundle's thread may look
        return [beginning for beginning, results in running if not results.done]

    def new_stats(self) -> Iterator[ShardStats]:
        """Those that are written since this was asked last.

        Raises:
          Exception: what writing one of them raised.
          InterruptedError: they were stopped, on another thread: missing packages is not written.
        """
        for shard, (_, results) in list(self._running.items()):
            is_done = results.done
            if self._is_stopped:  # looked at after `is_done`: a stopped one may give no result
                leave_stopped()
            if is_done:
                del self._running[shard]
                yield from results

    def until_room(self) -> Iterator[ShardStats]:
        """Waits until another may begin; gives those that are written meanwhile."""
        while True:
            yield from self.new_stats()
            if self.has_room:
                return
            time.sleep(_LOOK_S)

    def finish(self) -> Iterator[ShardStats]:
        """Waits for all."""
        while self._running:
            yield from self.new_stats()
            time.sleep(_LOOK_S)

    def stop(self) -> None:
        """Ends all that is under way, and waits for it."""
        self._is_stopped = True
        stop_work(results for _, results in self._running.values())
        self._pool.shutdown()
